import { toFailure } from "../kernel/errors.ts";
import type { Run } from "../kernel/run.ts";
import type { JobChange, JobControl, JobQueue, ManualStart } from "./job-ledger.ts";

export interface StartManualDeps {
  readonly jobControl: JobControl;
  readonly jobQueue: JobQueue;
}

/**
 * Starts a job by hand: the row is what was accepted, the message only wakes it. When that cannot be sent, the sweep
 * sends another within minutes. Idempotency key: the caller's.
 *
 * @throws AppError `job_unknown`
 */
export async function startManualRun(
  { jobControl, jobQueue }: StartManualDeps,
  jobId: string,
  { key, ...change }: JobChange & { readonly key: string | undefined },
  run: Run,
): Promise<ManualStart> {
  const started = await jobControl.startManual(jobId, key, change, run.signal);
  if (started.kind !== "started") return started;
  const message = { v: 1, job: jobId, run: started.runId } as const;
  await jobQueue.send(message, 0, run.signal).catch((error: unknown) => {
    run.log.warn("job_wake_failed", { job: jobId, code: toFailure(error).code });
  });
  return started;
}
