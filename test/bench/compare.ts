/** What a benchmark needs and no more: rounds in turn, medians, ratios. Never an absolute bar: machines are noisy. */

export interface Contender {
  readonly name: string;
  /** Does the work once and returns how many units it did. */
  readonly run: () => Promise<number>;
}

export interface Measured {
  readonly name: string;
  /** Units per second of each round. */
  readonly rates: readonly number[];
  readonly median: number;
}

/** The middle value; of an even count the lower middle. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? Number.NaN;
}

/** Runs the contenders in turn (A B A B …), after one round that does not count. */
export async function compare(
  contenders: readonly Contender[],
  rounds: number,
): Promise<readonly Measured[]> {
  const rates = new Map(contenders.map(({ name }) => [name, [] as number[]]));
  for (let round = 0; round <= rounds; round += 1) {
    for (const { name, run } of contenders) {
      const startedAt = performance.now();
      const units = await run();
      const rate = (units * 1000) / (performance.now() - startedAt);
      if (round > 0) rates.get(name)?.push(rate);
    }
  }
  return [...rates].map(([name, list]) => ({ name, rates: list, median: median(list) }));
}

/** A table with the rate of each and its ratio to the first. */
export function report(title: string, unit: string, measured: readonly Measured[]): void {
  const baseline = measured[0]?.median ?? Number.NaN;
  console.log(`\n${title}`);
  for (const { name, rates, median: rate } of measured) {
    const [min, max] = [Math.min(...rates), Math.max(...rates)].map((x) => Math.round(x));
    const ratio = (rate / baseline).toFixed(2);
    console.log(
      `  ${name.padEnd(44)} ${String(Math.round(rate)).padStart(9)} ${unit}/s  ×${ratio}  (${min}–${max})`,
    );
  }
}
