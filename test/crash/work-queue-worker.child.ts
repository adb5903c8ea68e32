// A worker of the work queue that works until it is killed, and sweeps as the timer would. Writes what it sees into a
// file of its own before it goes on. Prints READY when it starts.
import { appendFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { transient } from "../../src/lib/kernel/errors.ts";
import { sweepWork } from "../../src/lib/queue/sweep-work.ts";
import type { WorkRun } from "../../src/lib/queue/work.ts";
import type { WorkEvent } from "../support/check-accounting.ts";
import { testRun } from "../support/test-run.ts";
import { openShop, type Thing, thingWork } from "../support/work-shop.ts";

const [url = "", key = "", connectionString = "", queue = "", databaseUrl = "", file = ""] =
  process.argv.slice(2);
const LEASE_MS = 800;
const SWEEP_EVERY_MS = 200;
/** Full jitter of thirty seconds takes as long as it takes; here it is a share of it. */
const random = () => Math.random() * 0.02;

const sql = postgres(databaseUrl, { max: 4, onnotice: () => {} });
const shop = await openShop(
  { supabase: { url, key }, connectionString, queue },
  { leaseMs: LEASE_MS, maxAttempts: 20, runningPerTenantMax: 6 },
  { random, visibleAgainSeconds: 2 },
);
const note = (event: WorkEvent) => appendFileSync(file, `${JSON.stringify(event)}\n`);

const work = thingWork(shop.spec, async (_services, thing, run) => {
  const { itemId: id, fence } = run;
  note({ t: "start", id, fence });
  await behave(thing, run);
  note({ t: (await applyOnce(thing, run)) ? "effect" : "refused", id, fence, key: thing.name });
  note({ t: "end", id, fence, outcome: "succeeded" });
  return {};
});

async function behave({ how }: Thing, { attempt, itemId: id, fence }: WorkRun): Promise<void> {
  if (how === "exit") process.exit(1);
  if (how === "slow") await sleep(1500);
  if (how === "short") await sleep(Math.random() * 60);
  if (how === "flaky" && attempt === 1) {
    note({ t: "end", id, fence, outcome: "retry" });
    throw transient("database_unavailable", { retryAfterMs: 1 });
  }
}

/** In one transaction with the fence: whoever lost the item cannot write, and a repetition changes nothing. */
async function applyOnce({ name }: Thing, { itemId, fence }: WorkRun): Promise<boolean> {
  try {
    return await sql.begin(async (transaction) => {
      await transaction`select worker.work_assert_fence(${itemId}, ${fence})`;
      const rows = await transaction`
        insert into public.effects (key, fence) values (${name}, ${fence}) on conflict (key) do nothing returning 1`;
      return rows.length === 1;
    });
  } catch (error) {
    if (String(error).includes("work_fence_stale")) return false;
    throw error;
  }
}

process.stdin.resume().on("end", () => process.exit(0));
console.log("READY");
const sweeping = (async () => {
  for (;;) {
    await sweepWork(shop.services, [work], testRun()).catch(() => {});
    await sleep(SWEEP_EVERY_MS);
  }
})();
await Promise.race([sweeping, shop.drain(work, { atOnce: 4, until: () => false })]);
