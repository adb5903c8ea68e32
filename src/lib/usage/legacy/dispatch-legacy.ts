import { randomUUID } from "node:crypto";
import type { Run } from "../../kernel/run.ts";
import type { LegacyQueue, LegacyRuns } from "./drain-legacy.ts";
import type { LegacyConfig } from "./legacy-config.ts";

export interface DispatchLegacyDeps {
  readonly legacyRuns: Pick<LegacyRuns, "start">;
  readonly legacyQueue: LegacyQueue;
  readonly legacyConfig: LegacyConfig;
}

/**
 * Sends one message that drains the legacy lanes, in a function of its own: whatever happens there, the log goes on.
 * Safe to run twice. Nothing is sent when both lanes are off.
 */
export async function dispatchLegacy(deps: DispatchLegacyDeps, run: Run): Promise<void> {
  const { pendingKey, counterPattern, isTrackingEnabled } = deps.legacyConfig;
  if (pendingKey === undefined && counterPattern === undefined) return;
  const runId = randomUUID();
  run.note({ legacyRunId: runId });
  await deps.legacyRuns.start(runId, isTrackingEnabled, run.signal);
  const position = { phase: "pending", cursor: "0" } as const;
  const message = { v: 1, job: "drain_legacy", runId, part: 0, position } as const;
  await deps.legacyQueue.send(message, run.signal);
}
