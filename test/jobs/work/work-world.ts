import { randomUUID } from "node:crypto";
import type { Sql } from "postgres";
import type { JobReport, JobRun } from "../../../src/lib/jobs/job.ts";
import type { LogFields } from "../../../src/lib/kernel/run.ts";

export interface Line {
  readonly event: string;
  readonly fields: LogFields;
}

export interface OpenRun {
  readonly run: JobRun;
  readonly lines: readonly Line[];
  /** What the run said while it worked. */
  readonly said: readonly JobReport[];
}

/** A run of a job as the ledger would hand it out: its row is `running` and carries the fence. */
export async function openRun(sql: Sql, jobId = "cleanup", slotAt?: number): Promise<OpenRun> {
  const runId = randomUUID();
  await sql`
    insert into worker.jobs (id, schedule, time_zone, overlap, catch_up, latest_start_ms, timeout_ms, attempts_max,
      is_critical, planned_from)
    values (${jobId}, '0 * * * *', 'UTC', 'skip', 'skip', 1000, 1000, 1, false, '2026-01-01')
    on conflict do nothing`;
  await sql`
    insert into worker.job_runs (id, job_id, due_at, trigger, status, fence, attempt, started_at, lease_until)
    values (${runId}, ${jobId}, now(), 'manual', 'running', 7, 1, now(), now() + interval '1 minute')`;
  const lines: Line[] = [];
  const said: JobReport[] = [];
  const write = (event: string, fields: LogFields = {}) => void lines.push({ event, fields });
  const log = { info: write, warn: write, error: write };
  const signal = AbortSignal.timeout(60_000);
  const progress = (fields: JobReport) => void said.push(fields);
  const run: JobRun = {
    name: jobId,
    id: "1",
    log,
    signal,
    note: () => {},
    jobId,
    runId,
    fence: 7,
    slotAt,
    progress,
  };
  return { run, lines, said };
}
