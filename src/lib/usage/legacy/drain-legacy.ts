import type { Run } from "../../kernel/run.ts";
import { alertLegacy, type LegacyAlertDeps } from "./alert-legacy.ts";
import { scopeOf } from "./counter-key.ts";
import { type DrainPendingDeps, drainPendingPage } from "./drain-pending.ts";
import type { LegacyConfig } from "./legacy-config.ts";
import type { LegacyMessage, LegacyPosition } from "./legacy-message.ts";
import { discoverCounters, type PollCountersDeps, pollCounters } from "./poll-counters.ts";

/** Bounds the loop of one message, whatever Redis answers: the continuation goes on. */
const PAGES_MAX = 10_000;

export interface LegacyQueue {
  send(message: LegacyMessage, signal: AbortSignal): Promise<void>;
}

export interface LegacyRuns {
  /** Idempotent per run id. */
  start(runId: string, isTrackingEnabled: boolean, signal: AbortSignal): Promise<void>;
  /** Idempotent; a run that succeeded stays so. */
  finish(end: LegacyRunEnd, signal: AbortSignal): Promise<LegacyRunSummary>;
}

export interface LegacyRunEnd {
  readonly runId: string;
  readonly status: "succeeded" | "failed";
  readonly counters?: "off" | "compared" | "cluster";
  /** Settings under which every counter was read in this run. */
  readonly scope?: string;
  readonly errorCode?: string;
  /** Tenants that are apart by more tokens than this are named. */
  readonly apartOver?: number;
}

export interface LegacyRunSummary {
  readonly status: string;
  readonly booked: number;
  readonly duplicates: number;
  readonly setAside: number;
  readonly tokens: string;
  readonly counters: string;
  readonly grown: string;
  readonly counterTokens: string;
  readonly resets: number;
  readonly drifts: number;
  readonly tenantsApart: number;
  readonly worst: readonly {
    readonly tenant: string;
    readonly apart: string;
    readonly cause: string | null;
  }[];
}

export interface DrainLegacyDeps extends DrainPendingDeps, PollCountersDeps, LegacyAlertDeps {
  readonly legacyRuns: LegacyRuns;
  readonly legacyQueue: LegacyQueue;
  readonly legacyConfig: LegacyConfig;
}

/**
 * Drains the pending set, then compares the counters, page by page from where the message says. Safe to run twice,
 * concurrently and to be killed between any two lines: every page is stored in one transaction, and reading it again
 * changes nothing. A message that runs out of its time slice sends its own continuation.
 */
export async function drainLegacy(
  deps: DrainLegacyDeps,
  message: LegacyMessage,
  run: Run,
): Promise<void> {
  const { runId, part } = message;
  run.note({ job: message.job, legacyRunId: runId, part });
  const until = deps.clock.now() + deps.legacyConfig.sliceMs;
  let position = message.position;
  for (let page = 0; position.phase !== "finish"; page += 1) {
    if (page >= PAGES_MAX || deps.clock.now() >= until) {
      run.note({ outcome: "sliced", pages: page });
      return deps.legacyQueue.send({ ...message, part: part + 1, position }, run.signal);
    }
    position = await drainPage(deps, runId, position, run);
  }
  await finishRun(deps, runId, position.counters, run);
}

type OpenPosition = Exclude<LegacyPosition, { phase: "finish" }>;

async function drainPage(
  deps: DrainLegacyDeps,
  runId: string,
  position: OpenPosition,
  run: Run,
): Promise<LegacyPosition> {
  const { counterPattern, pendingKey, ...rest } = deps.legacyConfig;
  if (position.phase === "pending") {
    if (pendingKey === undefined) return { phase: "discover", cursor: "0" };
    return drainPendingPage(deps, runId, position.cursor, run);
  }
  if (counterPattern === undefined) return { phase: "finish", counters: "off" };
  const config = { ...rest, counterPattern };
  return position.phase === "discover"
    ? discoverCounters(deps, config, runId, position.cursor, run)
    : pollCounters(deps, config, runId, position, run);
}

async function finishRun(
  deps: DrainLegacyDeps,
  runId: string,
  counters: "off" | "compared" | "cluster",
  run: Run,
): Promise<void> {
  const { counterPattern, counterDetail, alertThreshold } = deps.legacyConfig;
  const isRead = counters === "compared" && counterPattern !== undefined;
  const scope = isRead ? { scope: scopeOf({ counterPattern, counterDetail }) } : {};
  const end = {
    runId,
    status: "succeeded",
    counters,
    ...scope,
    apartOver: alertThreshold,
  } as const;
  const summary = await deps.legacyRuns.finish(end, run.signal);
  const { worst: _, ...numbers } = summary;
  run.note({ outcome: "drained", ...numbers });
  await alertLegacy(deps, runId, summary, run.signal);
}
