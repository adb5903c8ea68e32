import { afterAll, beforeAll, expect, test } from "vitest";
import { type LedgerWorld, openLedgerWorld } from "../usage/sql/ledger-world.ts";

/** The service comes in as service_role and may not do more than it needs: everything here has to be possible for it. */
let world: LedgerWorld;
beforeAll(async () => {
  world = await openLedgerWorld();
});
afterAll(() => world.close());

class RolledBack extends Error {}

test("the service role delivers notices, exports, reports, flies canaries and cleans up", async () => {
  const attempt = world.sql.begin(async (sql) => {
    await sql`set local role service_role`;
    const call = (fn: string, args: Record<string, unknown> = {}) =>
      world.call(fn, args, sql as never);
    const now = new Date().toISOString();

    const alert = {
      p_key: "k:1",
      p_level: "warning",
      p_title: "t",
      p_runbook: "r",
      p_evidence: {},
    };
    await call("alert_raise", { ...alert, p_value: null, p_threshold: null, p_now: now });
    const claim = {
      p_channel: "slack",
      p_window_seconds: 600,
      p_window_max: 20,
      p_lease_seconds: 60,
    };
    const messages = await call("alert_claim_messages", claim);
    expect(messages).toMatchObject([{ attempt: 1, notices: [{ key: "k:1" }] }]);
    const [{ id }] = messages as unknown as [{ id: string }];
    const settlement = { p_error: null, p_retry_seconds: 1, p_attempts_max: 3 };
    expect(
      await call("alert_settle_message", {
        p_message: id,
        p_attempt: 1,
        p_outcome: "sent",
        ...settlement,
      }),
    ).toEqual({ status: "settled", state: "sent" });
    expect(await call("alert_read_channels", { p_seconds: 60 })).toMatchObject([{ sent: 1 }]);

    const week = "2026-11-15";
    expect(await call("export_open", { p_week: week, p_format: "csv" })).toMatchObject({
      attempt: 1,
    });
    const page = { p_after: null, p_limit: 10 };
    for (const [fn, args] of [
      ["export_read_events", { p_day: week }],
      ["export_read_totals", { p_periods: [202611] }],
      ["export_read_runs", { p_week: week }],
    ] as const)
      expect(await call(fn, { ...args, ...page })).toEqual({ rows: [], next: null });
    const ledger = { p_week: week, p_after: 0, p_to: 9, p_limit: 10 };
    expect(await call("export_read_ledger", ledger)).toEqual({ rows: [], next: null });
    const file = { p_name: "a", p_path: "p", p_rows: 1, p_bytes: 1, p_content_bytes: 1 };
    expect(
      await call("export_keep_file", {
        p_week: week,
        p_attempt: 1,
        ...file,
        p_sha256: "0".repeat(64),
      }),
    ).toEqual({ status: "kept" });
    const finish = { p_week: week, p_attempt: 1, p_manifest: {} };
    expect(await call("export_finish", finish)).toEqual({ status: "finished" });
    expect(await call("export_list")).toMatchObject({ rows: [{ week, files: 1 }] });
    expect(await call("export_read", { p_week: week })).toEqual({});
    expect(await call("export_expired", { p_before: "2027-01-01", p_limit: 5 })).toHaveLength(1);
    expect(await call("export_known_paths", { p_paths: ["p", "q"] })).toEqual(["p"]);

    const day = "2026-11-23";
    for (const part of ["jobs", "health", "usage", "work", "alerts"])
      await call(`report_read_${part}`, { p_day: day });
    expect(await call("report_store", { p_day: day, p_data: {}, p_html: "x" })).toEqual({
      made: 1,
    });
    expect(await call("report_claim_mail", { p_day: day })).toBe(true);
    await call("report_settle_mail", { p_day: day, p_mail: "sent" });
    expect(await call("report_list")).toMatchObject({ rows: [{ day, mail: "sent" }] });
    expect(await call("report_read", { p_day: day, p_html: true })).toEqual({ html: "x" });

    const canary = { p_queues: ["q"], p_every_seconds: 60, p_lost_seconds: 60 };
    const [started] = (await call("canary_start", canary)) as unknown as [{ id: string }];
    expect(await call("canary_arrive", { p_id: started.id })).toBe(true);
    expect(await call("canary_read", { p_queues: ["q"] })).toMatchObject([{ queue: "q" }]);
    await call("canary_withdraw", { p_ids: [started.id] });

    await sql`
      insert into worker.jobs (id, schedule, time_zone, overlap, catch_up, latest_start_ms, timeout_ms, attempts_max,
        is_critical, planned_from) values ('cleanup', '', 'UTC', 'skip', 'skip', 1, 1, 1, false, now())`;
    const [run] = await sql`
      insert into worker.job_runs (job_id, due_at, trigger, status, fence, started_at, lease_until)
      values ('cleanup', now(), 'manual', 'running', 1, now(), now()) returning id`;
    const fence = { p_run: run?.["id"], p_fence: 1 };
    for (const what of [
      "job_runs",
      "work_items",
      "dead_items",
      "work_replays",
      "alerts",
      "alert_messages",
      "reports",
      "instances",
      "canaries",
    ])
      await call("cleanup_rows", { p_what: what, p_before: now, p_keep: 1, p_limit: 9, ...fence });
    await call("export_forget", { p_week: week, ...fence });
    throw new RolledBack();
  });
  await expect(attempt).rejects.toThrow(RolledBack);
});

test("nobody else may call any of it", async () => {
  const rows = await world.sql`
    select proname from pg_proc
     where pronamespace = 'worker'::regnamespace and proname ~ '^(alert|export|report|canary|cleanup)_'
       and (has_function_privilege('anon', oid, 'execute') or has_function_privilege('authenticated', oid, 'execute'))`;
  expect(rows).toEqual([]);
});
