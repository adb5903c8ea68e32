import type { Run } from "../kernel/run.ts";
import { JobRunMessageSchema } from "./job-message.ts";

/**
 * Takes messages of job runs that the platform gave up on. Nothing has to be booked: the message only wakes, the row is
 * the truth, and the sweep sends another one while the run waits. What cannot be read is named.
 */
export async function settlePoisonedRun(raw: unknown, run: Run): Promise<void> {
  const parsed = JobRunMessageSchema.safeParse(raw);
  const fields = parsed.success ? { job: parsed.data.job, jobRun: parsed.data.run ?? null } : {};
  run.log.warn("job_message_poisoned", { isReadable: parsed.success, ...fields });
}
