import { type LedgerWorld, openLedgerWorld } from "../usage/sql/ledger-world.ts";

export const MINUTE_MS = 60_000;

/** Facts of a job as the registry would bring them; a minute job that may start an hour late unless a test says more. */
export const jobFacts = (id: string, facts: Readonly<Record<string, unknown>> = {}) => ({
  id,
  schedule: "0 * * * * *",
  timeZone: "UTC",
  overlap: "skip",
  catchUp: "once",
  latestStartMs: 60 * MINUTE_MS,
  timeoutMs: MINUTE_MS,
  attemptsMax: 1,
  isCritical: false,
  ...facts,
});

/** Slots of the past, newest first: `ago(1)` is a minute ago. */
export const ago = (minutes: number): string =>
  new Date(Math.floor(Date.now() / MINUTE_MS - minutes) * MINUTE_MS).toISOString();

export interface JobWorld extends LedgerWorld {
  claim(job: string, slot: string, more?: Readonly<Record<string, unknown>>): Promise<Answer>;
  rows(job: string): Promise<Answer[]>;
  /** As if the instance had been silent for longer than its lease. */
  expireLease(runId: unknown): Promise<void>;
}
type Answer = Readonly<Record<string, unknown>>;

export async function openJobWorld(): Promise<JobWorld> {
  const world = await openLedgerWorld();
  return {
    ...world,
    claim: (job, slot, more = {}) =>
      world.call("job_claim_slot", {
        p_job: job,
        p_slot: slot,
        p_trigger: "schedule",
        p_instance: "test",
        p_lease_ms: MINUTE_MS,
        p_client_now: new Date().toISOString(),
        ...more,
      }),
    rows: async (job) => [
      ...(await world.sql`
        select id, slot_at, trigger, status, reason, fence, attempt, failures, crashes, stale_attempts, error_code, covered_by
          from worker.job_runs where job_id = ${job} order by due_at`),
    ],
    expireLease: async (runId) => {
      await world.sql`
        update worker.job_runs set lease_until = now() - interval '1 second' where id = ${String(runId)}`;
    },
  };
}
