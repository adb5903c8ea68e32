import type { Run } from "../../kernel/run.ts";
import type { LegacyRuns } from "./drain-legacy.ts";
import { LegacyMessageSchema } from "./legacy-message.ts";

export interface PoisonedLegacyDeps {
  readonly legacyRuns: LegacyRuns;
}

/**
 * Takes a drain that the platform gave up on into our books: its run failed. Nothing is lost with the message, because
 * nothing was removed that is not booked: the next run reads the lanes again.
 */
export async function settlePoisonedLegacy(
  deps: PoisonedLegacyDeps,
  raw: unknown,
  run: Run,
): Promise<void> {
  const parsed = LegacyMessageSchema.safeParse(raw);
  if (!parsed.success) {
    const characters = typeof raw === "string" ? raw.length : JSON.stringify(raw ?? null).length;
    run.log.error("usage_legacy_message_unreadable", { characters });
    return;
  }
  const { runId, part, position } = parsed.data;
  run.log.error("usage_legacy_failed", { legacyRunId: runId, part, phase: position.phase });
  const end = { runId, status: "failed", errorCode: "message_poisoned" } as const;
  await deps.legacyRuns.finish(end, run.signal);
}
