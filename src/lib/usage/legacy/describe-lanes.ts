import type { LegacyConfig } from "./legacy-config.ts";

type LaneName = "log" | "legacy_pending" | "legacy_direct" | "legacy_counter";

export interface LaneFacts {
  readonly lanes: readonly {
    readonly lane: string;
    readonly uses: number;
    readonly duplicates: number;
    readonly tokens: string;
    readonly lastDay: string;
  }[];
  readonly lastRun: { readonly counters: string } | undefined;
  readonly config: LegacyConfig;
}

export interface LaneDescription {
  readonly lane: LaneName;
  /** What the lane promises, without more. */
  readonly guarantee: string;
  readonly explanation: string;
  readonly state: "on" | "off" | "cluster";
  readonly uses: number | null;
  readonly duplicates: number | null;
  readonly tokens: string | null;
  readonly lastBookedOn: string | null;
}

const GUARANTEES: Readonly<Record<LaneName, readonly [guarantee: string, explanation: string]>> = {
  log: ["exact", "Every use has an id and stays in Redis until long after it is booked."],
  legacy_pending: [
    "exactly once, best effort on direct timeouts",
    "Every record is booked once. A direct call that timed out and had been committed is booked in both lanes; " +
      "the counters show it.",
  ],
  legacy_direct: [
    "exact per call",
    "Booked in the transaction of the call. A call has no id: who repeats it books twice.",
  ],
  legacy_counter: [
    "best effort",
    "Compared with the other lanes; booked only for the tenants of USAGE_LEGACY_COUNTER_TENANTS, in the month of the " +
      "poll. What a counter counted before it was reset and after the last poll is not known.",
  ],
};

/** The lanes with what each promises. Pure. */
export function describeLanes({ lanes, lastRun, config }: LaneFacts): LaneDescription[] {
  const states: Readonly<Record<LaneName, LaneDescription["state"]>> = {
    log: "on",
    legacy_pending: config.pendingKey === undefined ? "off" : "on",
    legacy_direct: "on",
    legacy_counter: counterState(config, lastRun),
  };
  const names: readonly LaneName[] = ["log", "legacy_pending", "legacy_direct", "legacy_counter"];
  return names.map((lane) => {
    const [guarantee, explanation] = GUARANTEES[lane];
    const booked = lanes.find((row) => row.lane === lane);
    return {
      lane,
      guarantee,
      explanation,
      state: states[lane],
      uses: booked?.uses ?? (lane === "log" ? null : 0),
      duplicates: booked?.duplicates ?? (lane === "log" ? null : 0),
      tokens: booked?.tokens ?? (lane === "log" ? null : "0"),
      lastBookedOn: booked?.lastDay ?? null,
    };
  });
}

function counterState(
  config: LegacyConfig,
  lastRun: LaneFacts["lastRun"],
): LaneDescription["state"] {
  if (config.counterPattern === undefined) return "off";
  return lastRun?.counters === "cluster" ? "cluster" : "on";
}
