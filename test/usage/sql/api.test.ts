import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Args, type LedgerWorld, openLedgerWorld, PERIOD } from "./ledger-world.ts";

type Client = SupabaseClient<never, "worker", "worker">;

let world: LedgerWorld;
let service: Client;
let anon: Client;
beforeAll(async () => {
  world = await openLedgerWorld();
  const { url, key, publishableKey } = await world.database.supabase();
  const connect = (apiKey: string): Client =>
    createClient(url, apiKey, {
      db: { schema: "worker" },
      auth: { persistSession: false },
    }) as Client;
  service = connect(key);
  anon = connect(publishableKey);
});
afterAll(() => world.close());

async function rpc(fn: string, args: object = {}): Promise<unknown> {
  const { data, error } = await service.rpc(fn as never, withTextAmounts(args) as never);
  if (error !== null) throw error;
  return data;
}

/** JSON has no bigint. */
const withTextAmounts = (args: object): Args =>
  JSON.parse(
    JSON.stringify(args, (_, value) => (typeof value === "bigint" ? String(value) : value)),
  );

describe("over the API", () => {
  test("columns, objects and amounts beyond 2^53 arrive and return to the digit", async () => {
    const shard = await world.openShard();
    const tenant = `O'Brien|"é" {a,b} 🦤 ${shard.shard}`;
    shard.record({ tenant, tokens: 9_007_199_254_740_993n, agent: "a", conversation: 'c,"1"' });
    shard.record({ tenant, tokens: -1n, model: "" });
    shard.bad({ raw: '["d","\\u0000"]', error: "format", tokens: "9007199254740995" });
    expect(await rpc("usage_apply_batch", shard.batch(0))).toMatchObject({
      status: "applied",
      applied: 2,
      bad: 1,
      tokens: "9007199254740992",
      n: "3",
    });
    expect(await rpc("usage_shard_state", { p_shard: shard.shard })).toMatchObject({
      cum: "18014398509481987",
    });
    expect(await rpc("usage_read_total", { p_tenant: tenant, p_period: PERIOD })).toMatchObject({
      tenant,
      tokens: "9007199254740992",
      breakdown: [
        { type: "llm", model: "", tokens: "-1" },
        { type: "llm", model: "gpt-4o", tokens: "9007199254740993" },
      ],
    });
    const events = await world.sql`
      select agent_id, conversation_id from worker.usage_events where tenant = ${tenant} order by tokens`;
    expect(events).toEqual([
      { agent_id: null, conversation_id: null },
      { agent_id: "a", conversation_id: 'c,"1"' },
    ]);
    const gaps = await shard.gaps();
    expect(gaps).toEqual([]);
  });

  test("empty columns and absent optional ones are fine", async () => {
    const shard = await world.openShard();
    const { p_bill: _, p_agent: __, p_conversation: ___, ...rest } = shard.batch(0);
    const empty = { ...rest, p_to_n: 3, p_cum: "0", p_count: "0", p_anchor: null };
    expect(await rpc("usage_apply_batch", empty)).toMatchObject({ status: "applied", applied: 0 });
  });

  test("every reader answers", async () => {
    expect(await rpc("ping")).toBe(1);
    expect(await rpc("usage_read_cursors")).toBeInstanceOf(Array);
    expect(await rpc("usage_read_runs", { p_limit: 5 })).toBeInstanceOf(Array);
    expect(await rpc("usage_read_run", { p_run: crypto.randomUUID() })).toBeNull();
    expect(await rpc("usage_read_scheduler", { p_job: "x" })).toMatchObject({ lastStatus: null });
    expect(await rpc("usage_ensure_days", { p_from: "2034-01-01", p_to: "2034-01-02" })).toBe(2);
  });

  test("a refused argument is a 400 with its code, a constraint one with its name", async () => {
    const shard = await world.openShard();
    shard.record();
    const { error, status } = await service.rpc(
      "usage_apply_batch" as never,
      withTextAmounts({ ...shard.batch(0), p_to_n: 0 }) as never,
    );
    expect(status).toBe(400);
    expect(error).toMatchObject({
      code: "UL001",
      message: expect.stringContaining("usage_argument_invalid"),
    });
    await expect(
      rpc("usage_apply_batch", { ...shard.batch(0), p_tenant: [""] }),
    ).rejects.toMatchObject({
      code: "23514",
      message: expect.stringContaining("usage_ledger_tenant_check"),
    });
  });

  test("the publishable key may neither call nor read", async () => {
    const shard = await world.openShard();
    shard.record();
    await shard.apply();
    const { error } = await anon.rpc(
      "usage_read_total" as never,
      {
        p_tenant: shard.tenant,
        p_period: PERIOD,
      } as never,
    );
    expect(error).toMatchObject({ code: "42501" });
    expect((await anon.from("usage_totals").select("*")).data ?? []).toEqual([]);
  });
});
