import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { parseCounterPattern } from "../../src/lib/usage/legacy/counter-key.ts";
import { drainLegacy } from "../../src/lib/usage/legacy/drain-legacy.ts";
import { COUNTERS_PER_PAGE } from "../../src/lib/usage/legacy/poll-counters.ts";
import { dayOf, periodOf } from "../../src/lib/usage/usage-keys.ts";
import { type LegacyWorld, openLegacyWorld } from "../support/legacy-world.ts";
import { testRun } from "../support/test-run.ts";
import { signal } from "../support/usage-world.ts";

let world: LegacyWorld;
beforeAll(async () => {
  world = await openLegacyWorld();
});
afterAll(() => world.close());
/** Every counter was met once, so that what follows is growth. */
beforeEach(() => world.drain());
afterEach(async () => {
  await world.server.flush();
  world.alerts.clear();
});

const tenantName = (name = "acme") => `${name}-${randomUUID()}`;
const books = (tokens: string) => ({ events: tokens, ledger: tokens, totals: tokens });
const keyOf = (tenant: string, rest = "llm:model:gpt-4o") =>
  `${tenant}:counter:token_usage:type:${rest}`;
const apartOf = async (tenant: string) => {
  const [row] = await world.database.sql`
    select apart::text, cause from worker.usage_legacy_tenants where tenant = ${tenant}`;
  return row;
};
const seenOf = async (key: string) => {
  const [row] = await world.database.sql`
    select seen::text, generation from worker.usage_legacy_counters where key = ${key}`;
  return row;
};

/** Between 0 and 1, the same at every run. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return state / 2 ** 31;
  };
}

describe("a use in all lanes", () => {
  test("is booked once, and both sides agree", async () => {
    const acme = tenantName();
    await world.produce({ tenant: acme, tokens: 1 });
    await world.drain(); // its first counter: compared from here on
    await world.produce({ tenant: acme, tokens: 100 });
    await world.produce({ tenant: acme, tokens: 10, direct: "failed" });
    await world.produce({ tenant: acme, tokens: 7, model: "ft:gpt-4o:org::x" });
    await world.drain();
    expect(await world.booksOf(acme)).toEqual(books("118"));
    expect(await apartOf(acme)).toEqual({ apart: "0", cause: null });
    expect(await world.findingsOf(acme)).toEqual([]);
    const lanes = await world.database.sql`
      select lane, sum(tokens)::text as tokens from worker.usage_ledger where tenant = ${acme}
       group by lane order by lane`;
    expect(lanes).toEqual([
      { lane: "legacy_direct", tokens: "108" },
      { lane: "legacy_pending", tokens: "10" },
    ]);
  });

  test("stays booked once when a thousand of them fail at random", async () => {
    const tenants = Array.from({ length: 5 }, () => tenantName());
    for (const tenant of tenants) await world.produce({ tenant, tokens: 0 });
    await world.drain();
    const random = randomNumbers(7);
    const truth = new Map<string, number>(tenants.map((tenant) => [tenant, 0]));
    for (let i = 0; i < 200; i += 1) {
      const tenant = tenants[i % tenants.length] ?? "";
      const tokens = Math.floor(random() * 1000);
      await world.produce({ tenant, tokens, direct: random() < 0.3 ? "failed" : "booked" });
      truth.set(tenant, (truth.get(tenant) ?? 0) + tokens);
      if (i % 60 === 59) await world.drain();
    }
    await world.drain();
    for (const [tenant, tokens] of truth) {
      expect(await world.booksOf(tenant)).toEqual(books(String(tokens)));
      expect(await apartOf(tenant)).toMatchObject({ apart: "0" });
    }
  });
});

describe("two sides that do not agree", () => {
  const open = async () => {
    const tenant = tenantName();
    await world.produce({ tenant, tokens: 5 });
    await world.drain();
    return tenant;
  };
  const causesOf = async (tenant: string) =>
    (await world.findingsOf(tenant)).map(({ cause, tokens }) => [cause, tokens]);

  test("because a direct call timed out and had been committed: named, with the amount", async () => {
    const acme = await open();
    await world.produce({ tenant: acme, tokens: 30 });
    await world.produce({ tenant: acme, tokens: 40, direct: "late" });
    await world.drain();
    expect(await causesOf(acme)).toEqual([["direct_committed_and_pending", "-40"]]);
    expect(await apartOf(acme)).toEqual({ apart: "-40", cause: "direct_committed_and_pending" });
  });

  test("because both writes failed: in flight first, not booked at the next comparison", async () => {
    const acme = await open();
    await world.produce({ tenant: acme, tokens: 40, direct: "failed", pending: "lost" });
    await world.drain();
    expect(await causesOf(acme)).toEqual([["in_flight", "40"]]);
    await world.drain();
    await world.drain();
    expect(await causesOf(acme)).toEqual([
      ["in_flight", "40"],
      ["not_booked", "0"],
    ]);
  });

  test("because a use was in flight: settled when it arrives", async () => {
    const acme = await open();
    await world.count(acme, 40);
    await world.drain();
    await world.direct("increment_token_usage", { p_tenant_id: acme, p_tokens: 40 }, signal);
    await world.drain();
    expect(await causesOf(acme)).toEqual([
      ["in_flight", "40"],
      ["settled", "-40"],
    ]);
    expect(await apartOf(acme)).toEqual({ apart: "0", cause: null });
  });

  test("because Redis did not answer the producer: the direct write stands", async () => {
    const acme = await open();
    await world.produce({ tenant: acme, tokens: 40, counter: "failed" });
    await world.drain();
    expect(await causesOf(acme)).toEqual([["not_counted", "-40"]]);
    expect(await world.booksOf(acme)).toEqual(books("45"));
  });

  test("because the record of a use waits in quarantine", async () => {
    const acme = await open();
    await world.count(acme, 40);
    await world.pend(JSON.stringify({ tenant_id: acme, tokens: 40, timestamp: "now" }));
    await world.drain();
    expect(await causesOf(acme)).toEqual([["set_aside", "40"]]);
  });

  test("because nothing but the counters knows the tenant", async () => {
    const acme = tenantName();
    await world.count(acme, 5);
    await world.drain();
    await world.count(acme, 60);
    await world.drain();
    expect(await causesOf(acme)).toEqual([["counter_only_producer", "60"]]);
    expect(await world.booksOf(acme)).toEqual(books("0"));
  });

  test("by more than the threshold raise an alert that names the worst", async () => {
    const acme = await open();
    await world.count(acme, 1500);
    await world.drain();
    expect(world.alerts.get("usage_legacy_drift")).toMatchObject({
      level: "warning",
      evidence: { worst: [{ tenant: acme, apart: "1500", cause: "in_flight" }] },
    });
    await world.count(acme, 5000);
    await world.drain();
    expect(world.alerts.get("usage_legacy_drift")).toMatchObject({ level: "critical" });
    await world.worker(
      "usage_legacy_accept_drift",
      { p_tenant: acme, p_who: "ops", p_reason: "booked by hand" },
      signal,
    );
    await world.drain();
    expect(world.alerts.has("usage_legacy_drift")).toBe(false);
  });
});

describe("the first reading", () => {
  test("only remembers, whatever the counters say, also for tenants that book by them", async () => {
    const fresh = await openLegacyWorld({ counterTenants: new Set(["beta"]) });
    try {
      await fresh.count("acme", 1_000_000);
      await fresh.count("beta", 2_000_000);
      await fresh.drain();
      expect(await fresh.booksOf("beta")).toEqual(books("0"));
      await fresh.count("beta", 3);
      await fresh.drain();
      expect(await fresh.booksOf("beta")).toEqual(books("3"));
      expect(await fresh.findingsOf("acme")).toEqual([]);
    } finally {
      await fresh.close();
    }
  });

  test("that never ended is not taken for one", async () => {
    const fresh = await openLegacyWorld({ counterTenants: new Set(["beta"]) });
    try {
      await fresh.count("beta", 100);
      const dying = {
        ...fresh.deps,
        counterLedger: {
          ...fresh.deps.counterLedger,
          list: () => Promise.reject(new Error("killed")),
        },
      };
      await expect(fresh.drain(dying)).rejects.toThrow("killed");
      fresh.queue.length = 0;
      await fresh.count("beta", 5); // known by now: growth
      await fresh.count("beta", 1000, "llm:model:other"); // unknown, and nobody can tell since when
      await fresh.drain();
      expect(await fresh.booksOf("beta")).toEqual(books("5"));
    } finally {
      await fresh.close();
    }
  });

  test("under another pattern starts again: nothing it finds is growth", async () => {
    const acme = tenantName();
    const own = world.withConfig({ counterTenants: new Set([acme]) });
    await world.redis.command(["SET", `${acme}:usage:llm:model:x`, "500"], signal);
    await world.count(acme, 70);
    await world.drain(own);
    expect(await world.booksOf(acme)).toEqual(books("70"));
    const counterPattern = parseCounterPattern("*:usage:*");
    const moved = { ...own, legacyConfig: { ...own.legacyConfig, counterPattern } };
    await world.drain(moved);
    await world.redis.command(["INCRBY", `${acme}:usage:llm:model:x`, "4"], signal);
    await world.drain(moved);
    expect(await world.booksOf(acme)).toEqual(books("74"));
  });

  test("of agent and conversation keys as part of the base key starts again as well", async () => {
    const acme = tenantName();
    const counterTenants = new Set([acme]);
    await world.count(acme, 10);
    await world.count(acme, 10, "llm:model:gpt-4o:agent:a1");
    await world.count(acme, 10, "llm:model:gpt-4o:conv:c1");
    await world.drain(world.withConfig({ counterTenants }));
    expect(await world.booksOf(acme)).toEqual(books("10"));
    const part = world.withConfig({ counterTenants, counterDetail: "part" });
    await world.drain(part);
    expect(await world.booksOf(acme)).toEqual(books("10"));
    await world.count(acme, 3, "llm:model:gpt-4o:agent:a1");
    await world.drain(part);
    expect(await world.booksOf(acme)).toEqual(books("13"));
    const [event] = await world.database.sql`
      select agent_id, model from worker.usage_events where tenant = ${acme} and tokens = 3`;
    expect(event).toEqual({ agent_id: "a1", model: "gpt-4o" });
  });
});

describe("a tenant that has its counters only", () => {
  const open = async () => {
    const tenant = tenantName();
    await world.count(tenant, 5);
    await world.drain();
    return { tenant, deps: world.withConfig({ counterTenants: new Set([tenant]) }) };
  };

  test("is booked by their growth, with key, generation, from and to as evidence", async () => {
    const { tenant, deps } = await open();
    await world.count(tenant, 37);
    await world.count(tenant, 8, "embedding:model:ft:te:3");
    await world.drain(deps);
    await world.drain(deps);
    expect(await world.booksOf(tenant)).toEqual(books("45"));
    const rows = await world.database.sql`
      select model, lane, tokens::text, note from worker.usage_ledger l where tenant = ${tenant} order by l.tokens`;
    expect(rows).toEqual([
      {
        model: "ft:te:3",
        lane: "legacy_counter",
        tokens: "8",
        note: [
          { key: keyOf(tenant, "embedding:model:ft:te:3"), generation: 0, from: "0", to: "8" },
        ],
      },
      {
        model: "gpt-4o",
        lane: "legacy_counter",
        tokens: "37",
        note: [{ key: keyOf(tenant), generation: 0, from: "5", to: "42" }],
      },
    ]);
    expect(await apartOf(tenant)).toEqual({ apart: "0", cause: null });
  });

  test("and that other lanes book as well is booked twice, and named", async () => {
    const { tenant, deps } = await open();
    await world.produce({ tenant, tokens: 20 });
    await world.drain(deps);
    expect(await world.findingsOf(tenant)).toMatchObject([
      { cause: "booked_by_other_lanes", tokens: "-20" },
    ]);
  });

  test("is booked in the month of the poll, across the turn of the year", async () => {
    const { tenant, deps } = await open();
    const turn = Date.UTC(2027, 0, 1);
    await world.count(tenant, 1);
    await world.drain({ ...deps, clock: { now: () => turn - 1 } });
    await world.count(tenant, 2);
    await world.drain({ ...deps, clock: { now: () => turn } });
    const rows = await world.database.sql`
      select e.period, e.day::text, e.tokens::text, l.period as billed from worker.usage_events e
        join worker.usage_ledger l on l.batch_id = e.batch_id and l.tenant = e.tenant and l.tokens = e.tokens
       where e.tenant = ${tenant} order by e.tokens`;
    expect(rows).toEqual([
      { period: 202612, day: "2026-12-31", tokens: "1", billed: 202612 },
      { period: 202701, day: "2027-01-01", tokens: "2", billed: 202701 },
    ]);
  });

  test("is booked once by four polls at the same time", async () => {
    const { tenant, deps } = await open();
    await world.count(tenant, 37);
    const message = {
      v: 1,
      job: "drain_legacy",
      runId: randomUUID(),
      part: 0,
      position: { phase: "discover", cursor: "0" },
    } as const;
    await Promise.all(Array.from({ length: 4 }, () => drainLegacy(deps, message, testRun())));
    expect(await world.booksOf(tenant)).toEqual(books("37"));
    expect(await seenOf(keyOf(tenant))).toEqual({ seen: "42", generation: 0 });
  });

  test("is booked once by a poll that was overtaken, whatever it had read", async () => {
    const { tenant, deps } = await open();
    await world.count(tenant, 10);
    let isOvertaken = false;
    const { move } = deps.counterLedger;
    const overtaken: typeof move = async (...args) => {
      if (!isOvertaken) {
        isOvertaken = true;
        await world.count(tenant, 100);
        await world.drain(deps);
      }
      return move(...args);
    };
    await world.drain({ ...deps, counterLedger: { ...deps.counterLedger, move: overtaken } });
    await world.drain(deps);
    expect(isOvertaken).toBe(true);
    expect(await world.booksOf(tenant)).toEqual(books("110"));
    expect(await seenOf(keyOf(tenant))).toEqual({ seen: "115", generation: 0 });
  });

  test("is exact beyond 2^53", async () => {
    const { tenant, deps } = await open();
    const key = keyOf(tenant);
    await world.redis.command(["SET", key, "9007199254740993"], signal);
    await world.drain(world.deps); // a jump
    await world.redis.command(["SET", key, "9007199254740994"], signal);
    await world.drain(deps);
    expect(await world.booksOf(tenant)).toEqual(books("1"));
  });
});

describe("a counter that fell", () => {
  const open = async () => {
    const tenant = tenantName();
    await world.count(tenant, 100);
    await world.drain();
    return { tenant, deps: world.withConfig({ counterTenants: new Set([tenant]) }) };
  };

  test("books nothing, leaves a gap, starts a generation, and goes on from there", async () => {
    const { tenant, deps } = await open();
    await world.redis.command(["SET", keyOf(tenant), "30"], signal);
    await world.drain(deps);
    expect(await world.booksOf(tenant)).toEqual(books("0"));
    expect(await seenOf(keyOf(tenant))).toEqual({ seen: "30", generation: 1 });
    expect(await world.findingsOf(tenant)).toMatchObject([
      {
        kind: "gap",
        cause: "counter_fell",
        tokens: "-70",
        evidence: { key: keyOf(tenant), generation: 0, from: "100", to: "30" },
      },
    ]);
    expect(world.alerts.get("usage_legacy_counter_gap")).toMatchObject({ level: "critical" });
    await world.count(tenant, 4);
    await world.drain(deps);
    expect(await world.booksOf(tenant)).toEqual(books("4"));
    expect(world.alerts.has("usage_legacy_counter_gap")).toBe(false);
  });

  test("because it is gone is a gap once, and counts from zero when it is back", async () => {
    const { tenant, deps } = await open();
    await world.redis.command(["DEL", keyOf(tenant)], signal);
    await world.drain(deps);
    await world.drain(deps);
    expect(await world.findingsOf(tenant)).toMatchObject([{ kind: "gap", tokens: "-100" }]);
    await world.count(tenant, 9);
    await world.drain(deps);
    expect(await world.booksOf(tenant)).toEqual(books("9"));
  });

  test("and comes back to where it was books what lies between once for each generation", async () => {
    const { tenant, deps } = await open();
    const key = keyOf(tenant);
    for (const value of ["150", "100", "150"]) {
      await world.redis.command(["SET", key, value], signal);
      await world.drain(deps);
    }
    expect(await world.booksOf(tenant)).toEqual(books("100"));
    expect(await seenOf(key)).toEqual({ seen: "150", generation: 1 });
  });

  test("that jumped by more than anybody uses is a gap as well", async () => {
    const { tenant, deps } = await open();
    await world.redis.command(["SET", keyOf(tenant), "2000000000000000"], signal);
    await world.drain(deps);
    expect(await world.booksOf(tenant)).toEqual(books("0"));
    expect(await world.findingsOf(tenant)).toMatchObject([{ cause: "counter_jumped" }]);
  });

  test("with all others lists the first thousand gaps and counts all of them", async () => {
    const tenant = tenantName();
    const keys = Array.from({ length: 1100 }, (_, i) => keyOf(tenant, `llm:model:m${i}`));
    await world.redis.command(["MSET", ...keys.flatMap((key) => [key, "5"])], signal);
    await world.drain();
    await world.redis.command(["DEL", ...keys], signal);
    const runId = await world.drain();
    const [run] = await world.database.sql`
      select resets::int, (select count(*)::int from worker.usage_legacy_findings f where f.run_id = r.run_id) as listed
        from worker.usage_legacy_runs r where run_id = ${runId}`;
    expect(run).toEqual({ resets: 1100, listed: 1000 });
  });
});

describe("a page", () => {
  test("ends in the middle of a tenant, and its two sides are compared once, at its end", async () => {
    const tenant = tenantName();
    const count = COUNTERS_PER_PAGE + 50;
    const keys = Array.from({ length: count }, (_, i) => keyOf(tenant, `llm:model:m${i}`));
    for (const value of ["1", "2", "3"]) {
      await world.redis.command(["MSET", ...keys.flatMap((key) => [key, value])], signal);
      await world.direct("increment_token_usage", { p_tenant_id: tenant, p_tokens: count }, signal);
      await world.drain();
    }
    expect(await world.findingsOf(tenant)).toEqual([]);
    expect(await apartOf(tenant)).toEqual({ apart: "0", cause: null });
  });
});

describe("what is no counter", () => {
  test("is left alone: other types, other names, text", async () => {
    const acme = tenantName();
    await world.redis.command(["SADD", keyOf(acme, "llm:model:set"), "x"], signal);
    await world.redis.command(["SET", keyOf(acme, "llm:model:text"), "12.5"], signal);
    await world.redis.command(["SET", keyOf(acme, "image:model:x"), "5"], signal);
    await world.redis.command(["SET", `${acme}:other`, "5"], signal);
    const run = testRun();
    const message = {
      v: 1,
      job: "drain_legacy",
      runId: randomUUID(),
      part: 0,
      position: { phase: "discover", cursor: "0" },
    } as const;
    await drainLegacy(world.deps, message, run);
    expect(run.lines).toMatchObject([
      { event: "usage_legacy_counters_unreadable", fields: { counters: 2 } },
    ]);
    const [row] = await world.database.sql`
      select count(*)::int as known from worker.usage_legacy_counters where tenant = ${acme}`;
    expect(row).toEqual({ known: 0 });
  });

  test("a cluster is not scanned in part: the lane says why it stands still", async () => {
    const runId = await world.drain({
      ...world.deps,
      legacyCounters: { ...world.deps.legacyCounters, canScan: async () => false },
    });
    const [run] = await world.database.sql`
      select status, counters from worker.usage_legacy_runs where run_id = ${runId}`;
    expect(run).toEqual({ status: "succeeded", counters: "cluster" });
    expect(world.alerts.get("usage_legacy_cluster")).toMatchObject({ level: "warning" });
  });
});

test("days and months of a poll are those of its clock", () => {
  expect([periodOf(Date.UTC(2026, 11, 31)), dayOf(Date.UTC(2026, 11, 31))]).toEqual([
    202612, 20_818,
  ]);
});
