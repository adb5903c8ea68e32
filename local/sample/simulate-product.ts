import { randomInt, randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { UsageProducer } from "../../src/lib/usage/usage-producer.ts";
import type { UsageRecord } from "../../src/lib/usage/usage-record.ts";
import { COMPANIES, type Company } from "./companies.ts";

export interface Simulated {
  readonly recorded: number;
  /** Retries of a request that had been recorded: they change nothing. */
  readonly duplicates: number;
}

export interface SimulationOptions {
  readonly durationMs: number;
  readonly requestsPerSecond: number;
}

const RECORD_WITHIN_MS = 5_000;
const TICK_MS = 250;
/** Every so often an answer gets lost, and the product asks again. */
const RETRY_EVERY = 12;
const CHAT_MODELS = ["gpt-4o", "gpt-4o-mini"] as const;
const EMBEDDING_MODEL = "text-embedding-3-small";

/** A product with a few customers: chats, agents and embeddings, each recorded once and some of them twice. */
export async function simulateProduct(
  producer: Pick<UsageProducer, "record">,
  options: SimulationOptions,
  stop: AbortSignal,
): Promise<Simulated> {
  const ticks = Math.ceil(options.durationMs / TICK_MS);
  const perTick = Math.max(1, Math.round((options.requestsPerSecond * TICK_MS) / 1000));
  const requests = ticks * perTick;
  let recorded = 0;
  let duplicates = 0;
  for (let request = 1; request <= requests && !stop.aborted; request++) {
    const use = makeUse(COMPANIES[request - 1] ?? pickCompany()); // nobody is left out
    const times = request % RETRY_EVERY === 0 ? 2 : 1;
    for (let attempt = 0; attempt < times; attempt++) {
      const { outcome } = await producer.record(use, AbortSignal.timeout(RECORD_WITHIN_MS));
      if (outcome === "recorded") recorded += 1;
      else duplicates += 1;
    }
    if (request % perTick === 0) await sleep(TICK_MS);
  }
  return { recorded, duplicates };
}

function makeUse({ tenant }: Company): UsageRecord {
  const base = { tenant, requestId: randomUUID(), occurredAt: Date.now() };
  if (randomInt(5) === 0) {
    return { ...base, type: "embedding", model: EMBEDDING_MODEL, tokens: randomInt(200, 4_000) };
  }
  return {
    ...base,
    type: "llm",
    model: CHAT_MODELS[randomInt(CHAT_MODELS.length)],
    tokens: randomInt(50, 2_500),
    agentId: `agent-${randomInt(1, 4)}`,
    conversationId: `conversation-${randomInt(1, 40)}`,
  };
}

function pickCompany(): Company {
  const draws = COMPANIES.flatMap((company) => Array<Company>(company.weight).fill(company));
  const drawn = draws[randomInt(draws.length)];
  if (drawn === undefined) throw new Error("there is a company for every draw");
  return drawn;
}
