/** Local time by Intl alone, minute by minute: slow, simple, and without anything of the planner. */

export const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const formats = new Map<string, Intl.DateTimeFormat>();

/** Local time of an instant, written as if it were UTC, in milliseconds. */
export function wallOf(zone: string, at: number): number {
  let format = formats.get(zone);
  if (format === undefined) {
    format = new Intl.DateTimeFormat("sv-SE", {
      timeZone: zone,
      dateStyle: "short",
      timeStyle: "medium",
    });
    formats.set(zone, format);
  }
  return Date.parse(`${format.format(at).replace(" ", "T")}Z`);
}

/** Instants, to the minute, at which the zone's offset changes. */
export function changesOf(zone: string, from: number, to: number): number[] {
  const offset = (at: number) => wallOf(zone, at) - at;
  const changes: number[] = [];
  for (let at = from; at < to; at += 24 * HOUR) {
    let [low, high] = [at, at + 24 * HOUR];
    if (offset(low) === offset(high)) continue;
    while (high - low > MINUTE) {
      const middle = low + Math.floor((high - low) / MINUTE / 2) * MINUTE;
      if (offset(middle) === offset(low)) low = middle;
      else high = middle;
    }
    changes.push(high);
  }
  return changes;
}

export interface Walk {
  /** Instants by local time. */
  readonly byWall: ReadonlyMap<number, readonly number[]>;
  readonly steps: readonly { readonly at: number; readonly wall: number }[];
}

export function walk(zone: string, from: number, to: number): Walk {
  const byWall = new Map<number, number[]>();
  const steps: { at: number; wall: number }[] = [];
  for (let at = from; at <= to; at += MINUTE) {
    const wall = wallOf(zone, at);
    steps.push({ at, wall });
    byWall.set(wall, [...(byWall.get(wall) ?? []), at]);
  }
  return { byWall, steps };
}

export interface OracleRule {
  readonly matches: (minuteOfDay: number) => boolean;
  readonly isEveryHour: boolean;
  readonly overlap: "first" | "last" | "both";
  readonly gap: "shift" | "skip";
}

/** Slots later than `after` and not later than `until`, both well inside the walk. */
export function oracleSlots(
  { byWall, steps }: Walk,
  rule: OracleRule,
  after: number,
  until: number,
): number[] {
  const slots = new Set<number>();
  const walls = steps.map(({ wall }) => wall);
  const [first, last] = [Math.min(...walls), Math.max(...walls)];
  for (let wall = first; wall <= last; wall += MINUTE) {
    const minuteOfDay = (wall / MINUTE) % 1440;
    if (!rule.matches(minuteOfDay)) continue;
    const instants = byWall.get(wall) ?? [];
    for (const at of instants.length > 0 ? pick(instants, rule) : behindGap(steps, wall, rule)) {
      slots.add(at);
    }
  }
  return [...slots].filter((at) => at > after && at <= until).sort((a, b) => a - b);
}

function pick(instants: readonly number[], { isEveryHour, overlap }: OracleRule) {
  if (isEveryHour || overlap === "both") return instants;
  return overlap === "first" ? instants.slice(0, 1) : instants.slice(-1);
}

/** The clock as it ran before the gap goes on through it. */
function behindGap(steps: Walk["steps"], wall: number, { isEveryHour, gap }: OracleRule): number[] {
  if (gap === "skip" && !isEveryHour) return [];
  const before = steps.filter((step, i) => step.wall < wall && (steps[i + 1]?.wall ?? 0) > wall);
  return before.map((step) => step.at + (wall - step.wall));
}
