import { DOCUMENT_SPEC } from "./lib/documents/document-spec.ts";
import { JOB_QUEUE } from "./lib/jobs/job-queue.storage.ts";
import type { WorkSpec } from "./lib/queue/work.ts";
import { workQueuesOf } from "./lib/queue/work-message.ts";
import { AUDIT_QUEUE } from "./lib/usage/audit-queue.storage.ts";
import { CONSOLIDATION_QUEUE } from "./lib/usage/consolidate-queue.storage.ts";
import { LEGACY_QUEUE } from "./lib/usage/legacy/legacy-queue.storage.ts";
import { SHARD_QUEUE } from "./lib/usage/shard-queue.storage.ts";

/** Where the platform moves a message after its last attempt. */
export const poisonQueueOf = (queue: string): string => `${queue}-poison`;

/** Queues that carry work. Infrastructure creates them and their poison queues: the host polls, it creates none. */
export const WORK_QUEUES = {
  usageShards: SHARD_QUEUE,
  usageLegacy: LEGACY_QUEUE,
  usageConsolidations: CONSOLIDATION_QUEUE,
  usageAudits: AUDIT_QUEUE,
  jobRuns: JOB_QUEUE,
} as const;

/** Kinds of work items; each has one queue for each priority. What runs them stands in work.ts. */
export const WORK_SPECS: readonly WorkSpec[] = [DOCUMENT_SPEC];

export const STORAGE_QUEUES: readonly string[] = [
  ...Object.values(WORK_QUEUES),
  ...WORK_SPECS.flatMap(workQueuesOf),
].flatMap((queue) => [queue, poisonQueueOf(queue)]);
