import { randomUUID } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type RunningChild, startNodeChild } from "../../local/backends/child-process.ts";
import { checkAccounting, type WorkEvent } from "../support/check-accounting.ts";
import { openDatabase, openQueues, type TestDatabase, type TestQueues } from "../support/stack.ts";
import { openShop, order, type Shop } from "../support/work-shop.ts";

/**
 * Worker processes that die at random moments, freeze past their lease, or are taken down by what they work on, on a
 * real database and real storage queues. WORK_KILLS sets how many are killed; what every producer and handler saw is
 * compared with the books after each hundred.
 */
const KILLS = Number(process.env["WORK_KILLS"] ?? 8);
const CHECK_EVERY = 100;
const WORKER = new URL("./work-queue-worker.child.ts", import.meta.url);

let database: TestDatabase;
let queues: TestQueues;
let shop: Shop;
let queue: string;
let dir: string;
let logs = 0;
const events: WorkEvent[] = [];

beforeAll(async () => {
  database = await openDatabase();
  queues = await openQueues();
  await database.sql`create table public.effects (key text primary key, fence bigint not null)`;
  dir = mkdtempSync(join(tmpdir(), "worker-service-work-"));
});
beforeEach(async () => {
  queue = queues.uniqueName("things");
  const supabase = await database.supabase();
  const address = { supabase, connectionString: queues.connectionString, queue };
  shop = await openShop(address, { leaseMs: 800, maxAttempts: 20, runningPerTenantMax: 6 });
  return () => shop.close();
});
afterAll(async () => {
  await database.close();
  rmSync(dir, { recursive: true, force: true });
});

async function startWorker(): Promise<RunningChild> {
  const { url, key } = await database.supabase();
  logs += 1;
  const file = join(dir, `worker-${logs}.log`);
  const args = [url, key, queues.connectionString, queue, database.url, file];
  return startNodeChild("work queue worker", WORKER, args, { ready: /^(READY)/m });
}

async function enqueue(how: string, tenant = "acme"): Promise<string> {
  const payload = { name: randomUUID(), how };
  const { id } = await shop.services.workQueue.enqueue(
    "thing",
    order({ payload, tenant }),
    shop.signal,
  );
  events.push({ t: "accepted", id });
  return id;
}

/** Everything that was written down; a line that a kill cut short was never finished. */
const recorded = (): WorkEvent[] => [
  ...events,
  ...readdirSync(dir).flatMap((file) =>
    readFileSync(join(dir, file), "utf8")
      .split("\n")
      .filter((line) => line.endsWith("}"))
      .map((line) => JSON.parse(line) as WorkEvent),
  ),
];

const rowOf = async (id: string) =>
  (await database.sql`select * from worker.work_items where id = ${id}`)[0];
const live = async (): Promise<number> => {
  const [row] = await database.sql`
    select count(*)::int as n from worker.work_items where state in ('queued', 'running', 'retrying')`;
  return row?.["n"];
};

const REST_WITHIN_MS = 90_000;
/** Until nothing waits and nothing runs; a message that died with its sender counts as lost at once, not in 5 minutes. */
async function comeToRest(): Promise<void> {
  const worker = await startWorker();
  const giveUpAt = Date.now() + REST_WITHIN_MS;
  while ((await live()) > 0) {
    expect(Date.now(), "work does not come to rest").toBeLessThan(giveUpAt);
    await database.sql`
      update worker.work_items set resend_at = now() where resend_at > greatest(now(), due_at) + interval '1 second'
         and sent_at < now() - interval '3 seconds'`;
    await sleep(100);
  }
  await sleep(300); // the last endings reach their logs
  await worker.kill();
}

async function expectBooksRight(): Promise<void> {
  const [row] = await database.sql`select worker.work_accounting() as books`;
  const books = row?.["books"] as Record<string, string>;
  expect(books).toMatchObject({ unaccounted: "0", queued: "0", running: "0", retrying: "0" });
  // A dead item's handler cannot say that it ended.
  const dead = await database.sql`select id, crashes from worker.work_items where state = 'dead'`;
  const last = dead.reduce((sum, { crashes }) => sum + Number(crashes), 0);
  const ends = dead.map(({ id }) => ({ t: "end", id: String(id), outcome: "dead" }) as const);
  const done = await database.sql`select id from worker.work_items where state = 'succeeded'`;
  expect(done.length + dead.length).toBe(events.length);
  const verdict = checkAccounting([...recorded(), ...ends], Number(books["crashes"]), last);
  const { recovered, slack } = verdict;
  expect(verdict, `${recovered} to ${recovered + slack} of ${books["crashes"]}`).toMatchObject({
    lost: [],
    unexpected: [],
    half: [],
    duplicated: [],
    isTakeoverCountRight: true,
  });
}

test(
  "no item is lost and no effect happens twice, wherever workers are killed",
  async () => {
    for (let left = KILLS; left > 0; left -= CHECK_EVERY) {
      let isOver = false;
      const producing = produceUntil(() => isOver);
      const kills = Math.min(left, CHECK_EVERY);
      await Promise.all([killWorkers(Math.ceil(kills / 2)), killWorkers(Math.floor(kills / 2))]);
      isOver = true;
      await producing;
      await comeToRest();
      await expectBooksRight();
    }
    const takenOver =
      await database.sql`select 1 from worker.work_attempts where outcome = 'crashed'`;
    expect(takenOver.length, "some died while they worked").toBeGreaterThan(0);
  },
  REST_WITHIN_MS + KILLS * 8000,
);

/** More than the workers can do at once, so that whoever is killed has something in its hands. */
const BACKLOG = 30;
async function produceUntil(isOver: () => boolean): Promise<void> {
  const ways = ["short", "short", "well", "flaky"];
  for (let i = 0; !isOver(); i += 1) {
    if ((await live()) > BACKLOG) await sleep(20);
    else await enqueue(ways[i % ways.length] ?? "well", `tenant-${i % 3}`);
  }
}

/** At any moment, and every second one while it certainly has something in its hands. */
async function killWorkers(times: number): Promise<void> {
  for (let kill = 0; kill < times; kill += 1) {
    const worker = await startWorker();
    if (kill % 2 === 0) await until("it works", () => isAtWork(worker));
    await sleep(Math.random() * (kill % 2 === 0 ? 60 : 800));
    await worker.kill();
  }
}

async function isAtWork({ pid }: RunningChild): Promise<boolean> {
  const rows = await database.sql`
    select 1 from worker.work_items where state = 'running' and claimed_by like ${`${pid}-%`}`;
  return rows.length > 0;
}

const WITHIN_MS = 60_000;
async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  const giveUpAt = Date.now() + WITHIN_MS;
  while (!(await isSo())) {
    expect(Date.now(), `not within a minute: ${what}`).toBeLessThan(giveUpAt);
    await sleep(20);
  }
}

describe("one item", () => {
  test("whose worker freezes past its lease has one effect, and the frozen one is refused", async () => {
    const frozen = await startWorker();
    const id = await enqueue("slow");
    await until("it runs", async () => (await rowOf(id))?.["state"] === "running");
    await sleep(200); // its handler is in its middle
    frozen.signal("SIGSTOP");
    const other = await startWorker();
    await until("another one ends it", async () => (await rowOf(id))?.["state"] === "succeeded");
    frozen.signal("SIGCONT");
    await until("the frozen one tries", async () => (await rowOf(id))?.["stale_writes"] === 1);
    const seen = recorded().filter((event) => event.id === id);
    expect(seen.filter(({ t }) => t === "effect")).toMatchObject([{ fence: 2 }]);
    expect(seen.filter(({ t }) => t === "refused")).toMatchObject([{ fence: 1 }]);
    expect(await rowOf(id)).toMatchObject({ crashes: 1, fence: "2", state: "succeeded" });
    await Promise.all([frozen.kill(), other.kill()]);
  }, 150_000);

  test("that takes its process down three times is quarantined, and its neighbours finish", async () => {
    const poison = await enqueue("exit");
    const neighbours: string[] = [];
    for (let i = 0; i < 12; i += 1) neighbours.push(await enqueue("short", `neighbour-${i % 4}`));
    let isOver = false;
    const reviving = (async () => {
      while (!isOver) {
        const worker = await startWorker();
        while (!isOver && (await Promise.race([worker.ended, sleep(50)])) === undefined);
        await worker.kill();
      }
    })();
    await until("it is dead", async () => (await rowOf(poison))?.["state"] === "dead");
    await until("the others are done", async () => (await live()) === 0);
    isOver = true;
    await reviving;
    expect(await rowOf(poison)).toMatchObject({ code: "work_poison", crashes: 3, failures: 0 });
    const states = await database.sql`
      select distinct state from worker.work_items where id in ${database.sql(neighbours)}`;
    expect(states).toEqual([{ state: "succeeded" }]);
  }, 180_000);
});
