import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { newItem, openWorkWorld, RUNNING_MAX, type WorkWorld } from "./work-world.ts";

/**
 * Random histories of one tenant against a model that is too simple to be wrong: a few items, a few workers that end
 * them, lose them, repeat themselves or come too late, and people who cancel and replay. WORK_PROPERTY_RUNS sets how many.
 */
const RUNS = Number(process.env["WORK_PROPERTY_RUNS"] ?? 25);
const MAX_ATTEMPTS = 2;

let world: WorkWorld;
beforeAll(async () => {
  world = await openWorkWorld();
});
afterAll(() => world.close());

const OUTCOMES = ["succeeded", "transient", "permanent", "cancelled", "released"] as const;
type Step =
  | { readonly do: "enqueue"; readonly key: number }
  | { readonly do: "claim" | "expire" | "cancel" | "replay"; readonly item: number }
  | {
      readonly do: "settle";
      readonly item: number;
      readonly outcome: (typeof OUTCOMES)[number];
      /** Fences that came after the one it holds. */
      readonly late: number;
    }
  | { readonly do: "sweep" };

const item = fc.nat({ max: 7 });
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({ do: fc.constant("enqueue" as const), key: fc.nat({ max: 5 }) }),
    },
    { weight: 6, arbitrary: fc.record({ do: fc.constant("claim" as const), item }) },
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant("settle" as const),
        item,
        outcome: fc.constantFrom(...OUTCOMES),
        late: fc.constantFrom(0, 0, 0, 1),
      }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("expire" as const), item }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("cancel" as const), item }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("replay" as const), item }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("sweep" as const) }) },
  ),
  { minLength: 5, maxLength: 40 },
);

interface Model {
  readonly id: string;
  readonly key: number;
  state: "queued" | "running" | "retrying" | "succeeded" | "dead" | "cancelled";
  fence: number;
  failures: number;
  crashes: number;
  stale: number;
  isExpired: boolean;
  isCancelled: boolean;
  /** Its last claim was ended by its worker. */
  isSettled: boolean;
}

const isLive = ({ state }: Model): boolean =>
  state === "queued" || state === "running" || state === "retrying";
const isRunning = ({ state }: Model): boolean => state === "running";

function recover(it: Model): void {
  it.state = it.isCancelled ? "cancelled" : it.crashes + 1 >= 3 ? "dead" : "retrying";
  it.crashes += 1;
  it.isExpired = false;
}

class History {
  readonly tenant = `tenant-${randomUUID()}`;
  readonly items: Model[] = [];

  async take(step: Step): Promise<void> {
    if (step.do === "enqueue") return this.enqueue(step.key);
    if (step.do === "sweep") return this.sweep();
    const it = this.items[step.item % Math.max(this.items.length, 1)];
    if (it === undefined) return;
    if (step.do === "claim") return this.claim(it);
    if (step.do === "cancel") return this.cancel(it);
    if (step.do === "replay") return this.replay(it);
    if (step.do === "settle") return this.settle(it, step.outcome, step.late);
    if (isRunning(it)) {
      await world.expire(it.id);
      it.isExpired = true;
    }
  }

  private async enqueue(key: number): Promise<void> {
    const dedupeKey = String(key);
    const wanted = newItem({ tenant: this.tenant, maxAttempts: MAX_ATTEMPTS, dedupeKey });
    const { items } = await world.call<{ items: { id: string; isDuplicate: boolean }[] }>(
      "work_enqueue",
      {
        p_items: [wanted],
        p_running_max: { thing: RUNNING_MAX },
      },
    );
    const repeated = this.items.find((it) => it.key === key && isLive(it));
    expect(items[0]).toMatchObject({ isDuplicate: repeated !== undefined });
    const id = items[0]?.id ?? "";
    if (repeated !== undefined) return expect(id).toBe(repeated.id);
    this.items.push({
      id,
      key,
      state: "queued",
      fence: 0,
      failures: 0,
      crashes: 0,
      stale: 0,
      isExpired: false,
      isCancelled: false,
      isSettled: false,
    });
  }

  private async claim(it: Model): Promise<void> {
    const claim = await world.claim(it.id, { p_random: 0 });
    if (!isLive(it)) return expect(claim).toEqual({ outcome: "gone" });
    if (isRunning(it) && !it.isExpired) return expect(claim).toEqual({ outcome: "busy" });
    if (isRunning(it)) recover(it);
    if (!isLive(it)) return expect(claim).toMatchObject({ outcome: "ended", state: it.state });
    if (this.items.filter(isRunning).length >= RUNNING_MAX) {
      return expect(claim).toEqual({ outcome: "throttled" });
    }
    it.state = "running";
    it.fence += 1;
    it.isSettled = false;
    const attempt = it.failures + it.crashes + 1;
    expect(claim).toMatchObject({ outcome: "claimed", fence: it.fence, attempt });
  }

  private async settle(it: Model, outcome: (typeof OUTCOMES)[number], late: number): Promise<void> {
    const fence = it.fence - late;
    if (fence < 1) return;
    const settled = await world.settle(it.id, fence, outcome, { p_random: 0 });
    if (isRunning(it) && late === 0) {
      it.state = endOf(it, outcome);
      if (outcome === "transient" || outcome === "permanent") it.failures += 1;
      it.isSettled = true;
      it.isExpired = false;
      return expect(settled).toMatchObject({ status: "ok", state: it.state });
    }
    if (late === 0 && it.isSettled) return expect(settled).toMatchObject({ status: "ok" });
    it.stale += 1;
    expect(settled).toEqual({ status: "stale" });
  }

  private async cancel(it: Model): Promise<void> {
    const reply = await world.call("work_cancel", {
      p_id: it.id,
      p_who: "ana",
      p_reason: "because",
      p_running_max: { thing: RUNNING_MAX },
    });
    if (!isLive(it)) return expect(reply).toMatchObject({ outcome: "ended" });
    const outcome = it.isCancelled ? "already_requested" : "requested";
    if (isRunning(it)) {
      it.isCancelled = true;
      return expect(reply).toMatchObject({ outcome });
    }
    it.state = "cancelled";
    expect(reply).toMatchObject({ outcome: "cancelled" });
  }

  private async replay(it: Model): Promise<void> {
    const { items } = await world.call<{ items: { outcome: string }[] }>("work_replay", {
      p_ids: [it.id],
      p_filter: {},
      p_limit: 10,
      p_per_second: 100,
      p_dry_run: false,
      p_known: ["thing"],
      p_actor: "ana",
      p_reason: "because",
    });
    const isTwin = this.items.some((other) => other.key === it.key && isLive(other));
    const outcome = it.state !== "dead" ? "not_dead" : isTwin ? "duplicate" : "moved";
    expect(items).toMatchObject([{ outcome }]);
    if (outcome === "moved") {
      const afresh = { state: "queued", failures: 0, crashes: 0, isCancelled: false } as const;
      Object.assign(it, afresh);
    }
    await this.letIn();
  }

  private async sweep(): Promise<void> {
    await world.call("work_sweep_expired", { p_kind: "thing", p_limit: 100 });
    for (const it of this.items) if (isRunning(it) && it.isExpired) recover(it);
    await world.makeAllDue(this.tenant);
    await this.letIn();
  }

  private async letIn(): Promise<void> {
    await world.call("work_sweep_waiting", { p_running_max: { thing: RUNNING_MAX }, p_limit: 500 });
  }

  /** What holds after every step. */
  async check(): Promise<void> {
    const rows = await world.sql`
      select id::text, state, fence::int, failures, crashes, stale_writes, sent_at is not null as sent
        from worker.work_items where tenant = ${this.tenant} order by seq`;
    expect(rows.map(({ sent: _, ...row }) => row)).toEqual(
      this.items.map(({ id, state, fence, failures, crashes, stale }) => ({
        id,
        state,
        fence,
        failures,
        crashes,
        stale_writes: stale,
      })),
    );
    const running = rows.filter(({ state }) => state === "running").length;
    const sent = rows.filter(({ sent: isSent }) => isSent).length;
    const waiting = rows.filter(
      ({ state, sent: isSent }) => !isSent && (state === "queued" || state === "retrying"),
    ).length;
    expect(running).toBeLessThanOrEqual(RUNNING_MAX);
    if (waiting > 0) expect(running + sent, "a turn was lost").toBeGreaterThanOrEqual(RUNNING_MAX);
    expect(await world.accounting()).toMatchObject({ unaccounted: "0" });
  }
}

function endOf(it: Model, outcome: (typeof OUTCOMES)[number]): Model["state"] {
  if (outcome === "succeeded") return "succeeded";
  if (outcome === "cancelled") return "cancelled";
  if (outcome === "permanent") return "dead";
  if (it.isCancelled) return "cancelled";
  if (outcome === "released") return "queued";
  return it.failures + 1 >= MAX_ATTEMPTS ? "dead" : "retrying";
}

test(
  "whatever workers and people do, in whatever order, every item is where the model says",
  async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (history) => {
        const it = new History();
        for (const step of history) {
          await it.take(step);
          await it.check();
        }
      }),
      { numRuns: RUNS, endOnFailure: RUNS > 100 },
    );
  },
  60_000 + RUNS * 3000,
);
