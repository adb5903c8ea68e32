import type { Alerts } from "../kernel/alerts.ts";
import type { Run } from "../kernel/run.ts";

export interface WorkAccounts {
  /** Counts by name as decimal strings; `unaccounted` is 0, or something is wrong. */
  read(signal: AbortSignal): Promise<Readonly<Record<string, string>>>;
}

const KEY = "work_unaccounted";

/** Every item that was accepted is somewhere: the sum is checked each minute. */
export async function judgeWorkAccounts(
  { workAccounts, alerts }: { readonly workAccounts: WorkAccounts; readonly alerts: Alerts },
  run: Run,
): Promise<Readonly<Record<string, unknown>>> {
  const accounts = await workAccounts.read(run.signal);
  const unaccounted = accounts["unaccounted"] ?? "unknown";
  if (unaccounted === "0") await alerts.resolve(KEY, run.signal);
  else
    await alerts.raise(
      {
        key: KEY,
        level: "critical",
        title: "Work items are not accounted for",
        evidence: accounts,
        runbook: "docs/operations/work-does-not-move.md#unaccounted-is-not-0",
        ...(unaccounted === "unknown" ? {} : { value: unaccounted, threshold: "0" }),
      },
      run.signal,
    );
  const { queued, running, retrying } = accounts;
  return { unaccounted, queued, running, retrying };
}
