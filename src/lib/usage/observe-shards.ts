import { AppError } from "../kernel/errors.ts";
import type { Run } from "../kernel/run.ts";
import {
  type Check,
  type Observation,
  planChecks,
  planWrites,
  type Verdict,
} from "./plan-observations.ts";

/** The logs, asked on the primary whether they are still the ones that were observed. */
export interface LogWitness {
  /** All shards in one pipeline. A contradicted lineage is ended at once. One shard may fail without the others. */
  verify(checks: readonly Check[], signal: AbortSignal): Promise<readonly (Verdict | AppError)[]>;
}

/** How far each log was, remembered outside Redis. */
export interface Observations {
  read(signal: AbortSignal): Promise<readonly Observation[]>;
  /** One transaction: what an ended lineage lost becomes a gap, then the next observations. Safe to repeat. */
  write(verdicts: readonly Verdict[], signal: AbortSignal): Promise<void>;
}

export interface ObserveDeps {
  readonly logWitness: LogWitness;
  readonly observations: Observations;
}

/**
 * Verifies the last observation of every shard, and only then replaces it: an observation that is overwritten by the
 * log of a Redis that forgot proves nothing any more. Safe to repeat and to run twice; a crash after the lineage was
 * ended in Redis leaves the observation, and the next run, or the fork that follows, writes the gap.
 */
export async function observeShards(deps: ObserveDeps, run: Run): Promise<void> {
  const checks = planChecks(await deps.observations.read(run.signal));
  const answers = await deps.logWitness.verify(checks, run.signal);
  const verdicts = answers.filter((answer) => !(answer instanceof AppError));
  for (const [i, answer] of answers.entries()) {
    if (!(answer instanceof AppError)) continue;
    run.log.warn("usage_shard_unobserved", { shard: checks[i]?.shard, code: answer.code });
  }
  const writes = planWrites(answers);
  const contradicted = verdicts.filter(({ kind }) => kind === "contradicted");
  for (const { shard } of contradicted)
    run.log.error("usage_log_contradicts_observation", { shard });
  if (writes.length > 0) await deps.observations.write(writes, run.signal);
  run.note({
    observed: writes.length,
    contradicted: contradicted.length,
    unobserved: answers.length - verdicts.length,
  });
}
