// Recording through the producer client against the bare pipelined INCRBY + RPUSH on the same Redis in the same run.
//   npm run bench:record     bar: ≥ 0.60 of the bare rate
import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { startRedis } from "../../local/backends/redis.ts";
import { createIoredisDriver } from "../../src/lib/runtime/ioredis-driver.redis.ts";
import { createUsageProducer } from "../../src/lib/usage/usage-producer.ts";
import { compare, report } from "./compare.ts";

const RECORDS = 30_000;
const IN_FLIGHT = 64;
const TENANTS = 500;
const ROUNDS = 5;
const signal = new AbortController().signal;

const server = await startRedis({});
const bare = new Redis(server.url);
const driver = createIoredisDriver({ url: server.url });
const producer = createUsageProducer({ redis: driver });
const tenants = Array.from({ length: TENANTS }, (_, i) => `tenant-${i}`);
const tenantOf = (i: number): string => tenants[i % TENANTS] ?? "";

const useOf = (i: number, run: string) => ({
  tenant: tenantOf(i),
  tokens: 1 + (i % 1000),
  requestId: `${run}-${i}`,
  occurredAt: Date.now(),
  type: "llm" as const,
  model: "gpt-4o",
});

/** 64 requests at a time, each waits for its own answer before it makes the next record: what a product does. */
const inFlight = async (work: (i: number, run: string) => Promise<unknown>): Promise<number> => {
  const run = randomUUID();
  let next = 0;
  const loop = async () => {
    while (next < RECORDS) await work(next++, run);
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, loop));
  return RECORDS;
};

const inBulk = async (work: (from: number, run: string) => Promise<unknown>): Promise<number> => {
  const run = randomUUID();
  for (let from = 0; from < RECORDS; from += IN_FLIGHT) await work(from, run);
  return RECORDS;
};

const requests = await compare(
  [
    {
      name: "INCRBY + RPUSH, a pipeline per request",
      run: () =>
        inFlight((i, run) => {
          const { tenant, tokens, requestId } = useOf(i, run);
          const entry = JSON.stringify({ tenant, tokens, requestId });
          return bare.pipeline().incrby(`c:${tenant}`, tokens).rpush("pending", entry).exec();
        }),
    },
    {
      name: "producer.record",
      run: () => inFlight((i, run) => producer.record(useOf(i, run), signal)),
    },
  ],
  ROUNDS,
);
const bulk = await compare(
  [
    {
      name: "INCRBY + RPUSH, 64 records in one pipeline",
      run: () =>
        inBulk((from, run) => {
          const pipeline = bare.pipeline();
          for (let i = from; i < from + IN_FLIGHT; i += 1) {
            const { tenant, tokens, requestId } = useOf(i, run);
            pipeline.incrby(`c:${tenant}`, tokens);
            pipeline.rpush("pending", JSON.stringify({ tenant, tokens, requestId }));
          }
          return pipeline.exec();
        }),
    },
    {
      name: "producer.recordAll, 64 records",
      run: () =>
        inBulk((from, run) => {
          const records = Array.from({ length: IN_FLIGHT }, (_, k) => useOf(from + k, run));
          return producer.recordAll(records, signal);
        }),
    },
  ],
  ROUNDS,
);
report(`${IN_FLIGHT} requests in flight on ${server.kind}, bar ≥ 0.60`, "records", requests);
report(`In bulk, ${IN_FLIGHT} records a round trip`, "records", bulk);
bare.disconnect();
await driver.close();
await server.stop();
