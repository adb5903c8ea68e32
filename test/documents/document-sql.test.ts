import { randomUUID } from "node:crypto";
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Answer } from "../usage/sql/ledger-world.ts";
import {
  chunkRows,
  type DocumentWorld,
  openDocumentWorld,
  registration,
} from "./document-world.ts";

let world: DocumentWorld;
beforeAll(async () => {
  world = await openDocumentWorld();
});
afterAll(() => world.close());

const LEASE = 300;

/** An attempt at a document under the name of a work item and a fence. */
function attempt(id: string, workspace: string, item: string = randomUUID(), fence = 1) {
  const name = { p_id: id, p_item: item, p_fence: fence };
  return {
    item,
    claim: (lease = LEASE) =>
      world.call("document_claim", { ...name, p_workspace: workspace, p_lease_seconds: lease }),
    touch: () =>
      world.call("document_touch", {
        ...name,
        p_stage: "read",
        p_progress: {},
        p_lease_seconds: LEASE,
      }),
    put: (rows = chunkRows(2)) =>
      world.call("document_put_chunks", {
        ...name,
        p_model: "lex-hash-v1",
        p_rows: rows,
        p_done: rows.length,
        p_total: rows.length,
        p_lease_seconds: LEASE,
      }),
    finish: (expected = 2, facts = {}) =>
      world.call("document_finish", {
        ...name,
        p_expect: expected,
        p_facts: { sha256: "content", pipelineKey: "key", type: "text", bytes: 7, ...facts },
      }),
    keep: () => world.call("document_keep", name),
    fail: (state = "retrying", code = "document_corrupt", text = "It is broken") =>
      world.call("document_fail", {
        ...name,
        p_state: state,
        p_code: code,
        p_text: text,
        p_is_absent: false,
      }),
    release: () => world.call("document_release", name),
  };
}

const chunksOf = async (id: string): Promise<string[]> => {
  const rows = await world.sql`
    select version || '.' || ordinal as chunk from worker.document_chunks
     where document_id = ${id} order by version, ordinal`;
  return rows.map((row) => String(row["chunk"]));
};
const expireLease = (id: string) =>
  world.sql`update worker.documents set lease_until = now() - interval '1 second' where id = ${id}`;
const statusOf = async (answer: Promise<Answer>) => (await answer)["status"];
const ready = async () => {
  const { id, workspace } = await world.register();
  const first = attempt(id, workspace);
  await first.claim();
  await first.put();
  await first.finish();
  return { id, workspace };
};

describe("registering", () => {
  test("makes one document of an object, however often it is asked", async () => {
    const workspace = randomUUID();
    const args = registration(workspace);
    const first = await world.call("document_register", args);
    expect(first).toMatchObject({ status: "queued", isNew: true });
    expect(await world.call("document_register", args)).toEqual({
      status: "already",
      id: first["id"],
      isNew: false,
    });
    expect(await world.call("document_register", { ...args, p_id: randomUUID() })).toEqual({
      status: "conflict",
    });
  });

  test("asks again for an object that was processed", async () => {
    const { id, workspace } = await ready();
    const { path } = await world.row(id);
    const args = registration(workspace, { p_path: path, p_name: "New name" });
    expect(await world.call("document_register", args)).toEqual({
      status: "queued",
      id,
      isNew: false,
    });
    expect(await world.row(id)).toMatchObject({ state: "queued", name: "New name" });
  });

  test("never takes an id that belongs to another workspace", async () => {
    const { id } = await world.register();
    const answer = await world.call(
      "document_register",
      registration(randomUUID(), { p_id: id, p_name: "Stolen" }),
    );
    expect(answer).toEqual({ status: "conflict" });
    expect(await world.row(id)).toMatchObject({ name: "A document" });
  });

  test("refuses a path outside of the workspace", async () => {
    const args = registration(randomUUID(), { p_path: `${randomUUID()}/a.txt` });
    await expect(world.call("document_register", args)).rejects.toMatchObject({ code: "DO001" });
  });
});

describe("an attempt", () => {
  test("serves its chunks when it is complete, and only then", async () => {
    const { id, workspace } = await world.register();
    const first = attempt(id, workspace);
    expect(await first.claim()).toMatchObject({ status: "claimed", version: 1, hasActive: false });
    expect(await first.put()).toEqual({ status: "ok", inserted: 2 });
    expect(await world.row(id)).toMatchObject({ state: "processing", active_version: null });
    expect(await first.finish()).toEqual({ status: "ok", state: "ready" });
    expect(await world.row(id)).toMatchObject({
      state: "ready",
      active_version: 1,
      chunk_count: 2,
      claim_item: null,
    });
  });

  test("stages a batch once, however often it is sent", async () => {
    const { id, workspace } = await world.register();
    const first = attempt(id, workspace);
    await first.claim();
    await first.put();
    expect(await first.put()).toEqual({ status: "ok", inserted: 0 });
    expect(await chunksOf(id)).toEqual(["1.0", "1.1"]);
  });

  test("is ready_partial with its warnings", async () => {
    const { id, workspace } = await world.register();
    const first = attempt(id, workspace);
    await first.claim();
    await first.put();
    const warnings = [{ code: "page_damaged", page: 3 }];
    expect(await first.finish(2, { warnings })).toEqual({ status: "ok", state: "ready_partial" });
    expect(await world.row(id)).toMatchObject({ warnings });
  });

  test.each([
    ["fewer chunks than expected", 2, 3],
    ["more chunks than expected", 2, 1],
    ["no chunks at all", 0, 0],
  ])("never becomes ready with %s", async (_, staged, expected) => {
    const { id, workspace } = await world.register();
    const first = attempt(id, workspace);
    await first.claim();
    await first.put(chunkRows(staged));
    await expect(first.finish(expected)).rejects.toMatchObject({ code: "DO003" });
    expect(await world.row(id)).toMatchObject({ state: "processing", active_version: null });
  });

  test("keeps at most 500 characters of what went wrong", async () => {
    const { id, workspace } = await world.register();
    const first = attempt(id, workspace);
    await first.claim();
    await first.fail("failed", "document_corrupt", "x".repeat(600));
    const row = await world.row(id);
    expect(row).toMatchObject({ state: "failed", error_code: "document_corrupt", failures: 1 });
    expect(String(row["error_text"])).toHaveLength(500);
  });

  test("that was interrupted gives the document back without counting a failure", async () => {
    const { id, workspace } = await world.register();
    const first = attempt(id, workspace);
    await first.claim();
    expect(await first.release()).toEqual({ status: "ok" });
    expect(await world.row(id)).toMatchObject({ state: "queued", failures: 0, claim_item: null });
  });

  test("stages at most 64 chunks in a call", async () => {
    const { id, workspace } = await world.register();
    const first = attempt(id, workspace);
    await first.claim();
    await expect(first.put(chunkRows(65))).rejects.toMatchObject({ code: "DO001" });
  });
});

describe("the claim", () => {
  test("has one winner among sixteen, every time", async () => {
    const pool = postgres(world.database.url, { max: 16, onnotice: () => {} });
    try {
      await Promise.all(Array.from({ length: 16 }, () => pool`select pg_sleep(0.05)`));
      for (let round = 0; round < 30; round += 1) {
        const { id, workspace } = await world.register();
        const answers = await Promise.all(
          Array.from(
            { length: 16 },
            () =>
              pool`select worker.document_claim(${id}, ${workspace}, ${randomUUID()}, 1, ${LEASE})->>'status' as status`,
          ),
        );
        const statuses = answers.map(([row]) => row?.["status"]).sort();
        expect(statuses).toEqual([...Array(15).fill("busy"), "claimed"]);
      }
    } finally {
      await pool.end();
    }
  });

  test("of a second work item waits for the first", async () => {
    const { id, workspace } = await world.register();
    await attempt(id, workspace).claim();
    expect(await statusOf(attempt(id, workspace).claim())).toBe("busy");
  });

  test("takes over from a worker whose lease is over, and that one can write no more", async () => {
    const { id, workspace } = await world.register();
    const dead = attempt(id, workspace);
    await dead.claim();
    await dead.put();
    await expireLease(id);
    const next = attempt(id, workspace);
    expect(await next.claim()).toMatchObject({ status: "claimed", version: 2 });
    for (const write of [dead.touch, dead.put, dead.finish, dead.keep, dead.fail, dead.release]) {
      expect(await statusOf(write())).toBe("lost");
    }
    await next.put(chunkRows(3));
    await next.finish(3);
    expect(await statusOf(dead.finish())).toBe("lost");
    expect(await chunksOf(id)).toEqual(["2.0", "2.1", "2.2"]);
  });

  test("of the same work item with a higher fence takes over at once", async () => {
    const { id, workspace } = await world.register();
    const zombie = attempt(id, workspace);
    await zombie.claim();
    const next = attempt(id, workspace, zombie.item, 2);
    expect(await next.claim()).toMatchObject({ status: "claimed", version: 2 });
    expect(await statusOf(zombie.claim())).toBe("stale");
    expect(await statusOf(zombie.put())).toBe("lost");
  });

  test("that is repeated because its answer was lost is the same attempt", async () => {
    const { id, workspace } = await world.register();
    const first = attempt(id, workspace);
    await first.claim();
    expect(await first.claim()).toMatchObject({ status: "claimed", version: 1 });
  });

  test("of another workspace touches nothing", async () => {
    const { id } = await world.register();
    const before = await world.row(id);
    expect(await attempt(id, randomUUID()).claim()).toEqual({ status: "mismatch" });
    expect(await world.row(id)).toEqual(before);
  });

  test("of a document that nobody registered says so", async () => {
    expect(await attempt(randomUUID(), randomUUID()).claim()).toEqual({ status: "unknown" });
  });
});

describe("processing again", () => {
  test("serves the old version until the new one is complete", async () => {
    const { id, workspace } = await ready();
    const again = attempt(id, workspace);
    await again.claim();
    await again.put(chunkRows(3, 0, "Newer words"));
    expect(await world.row(id)).toMatchObject({ state: "processing", active_version: 1 });
    const read = { p_id: id, p_workspace: workspace, p_from: 0, p_limit: 10 };
    expect((await world.call("document_read_chunks", read))["rows"]).toMatchObject([
      { content: "Some words of chunk 0" },
      { content: "Some words of chunk 1" },
    ]);
    await again.finish(3);
    expect((await world.call("document_read_chunks", read))["rows"]).toHaveLength(3);
    expect(await chunksOf(id)).toEqual(["2.0", "2.1", "2.2"]);
  });

  test("that fails leaves the old version served", async () => {
    const { id, workspace } = await ready();
    const again = attempt(id, workspace);
    await again.claim();
    await again.put(chunkRows(3));
    await again.fail("failed");
    expect(await world.row(id)).toMatchObject({ state: "failed", active_version: 1 });
  });

  test("keeps the active version when nothing changed", async () => {
    const { id, workspace } = await ready();
    const again = attempt(id, workspace);
    expect(await again.claim()).toMatchObject({
      sha256: "content",
      pipelineKey: "key",
      hasActive: true,
    });
    expect(await again.keep()).toEqual({ status: "ok", state: "ready" });
    expect(await chunksOf(id)).toEqual(["1.0", "1.1"]);
  });

  test("keeps what at most one dead attempt left behind", async () => {
    const { id, workspace } = await ready();
    for (let i = 0; i < 4; i += 1) {
      const dying = attempt(id, workspace);
      await dying.claim();
      await dying.put();
      await expireLease(id);
    }
    await attempt(id, workspace).claim();
    expect(await chunksOf(id)).toEqual(["1.0", "1.1", "5.0", "5.1"]);
  });
});

describe("cancel and delete", () => {
  const cancel = (id: string, workspace: string) =>
    world.call("document_cancel", { p_id: id, p_workspace: workspace, p_audit: null });
  const remove = (id: string, workspace: string) =>
    world.call("document_delete", { p_id: id, p_workspace: workspace, p_audit: null });

  test("end the work of whoever has it", async () => {
    for (const [end, status] of [
      [cancel, "cancelled"],
      [remove, "deleted"],
    ] as const) {
      const { id, workspace } = await world.register();
      const first = attempt(id, workspace);
      await first.claim();
      await first.put();
      expect(await end(id, workspace)).toMatchObject({ status, workItem: first.item });
      for (const write of [first.touch, first.put, first.finish, first.keep, first.fail]) {
        expect(await statusOf(write())).toBe(status);
      }
      expect(await world.row(id)).toMatchObject({ state: status, active_version: null });
    }
  });

  test("a cancelled document is not claimed until somebody asks for it again", async () => {
    const { id, workspace } = await world.register();
    await cancel(id, workspace);
    expect(await statusOf(attempt(id, workspace).claim())).toBe("cancelled");
    await world.call("document_request", {
      p_id: id,
      p_workspace: workspace,
      p_force: false,
      p_audit: null,
    });
    expect(await statusOf(attempt(id, workspace).claim())).toBe("claimed");
  });

  test("a deleted document has no chunks and no name, and is forgotten later", async () => {
    const { id, workspace } = await ready();
    await remove(id, workspace);
    expect(await chunksOf(id)).toEqual([]);
    expect(await world.row(id)).toMatchObject({ state: "deleted", name: "", path: "" });
    expect(await statusOf(attempt(id, workspace).claim())).toBe("gone");
    expect(await remove(id, workspace)).toEqual({ status: "gone" });
    const before = new Date(Date.now() + 60_000).toISOString();
    expect(await world.call("document_prune", { p_before: before, p_limit: 100 })).toBeTruthy();
    expect(await world.row(id)).toEqual({});
  });

  test("leave documents of other workspaces alone", async () => {
    const { id, workspace } = await ready();
    const other = randomUUID();
    const before = await world.row(id);
    for (const end of [cancel, remove]) {
      expect(await end(id, other)).toEqual({ status: "mismatch" });
    }
    expect(await world.row(id)).toEqual(before);
    expect(await cancel(id, workspace)).toEqual({ status: "over", state: "ready" });
  });

  test("are noted in the audit log with who and why", async () => {
    const { id, workspace } = await ready();
    const p_audit = { actor: "the-operator", reason: "not needed", requestId: "r1" };
    await world.call("document_delete", { p_id: id, p_workspace: workspace, p_audit });
    const rows = await world.sql`
      select actor, action, reason, request_id from worker.audit_log where subject = ${`document:${id}`}`;
    expect([...rows]).toEqual([
      { actor: "the-operator", action: "document_delete", reason: "not needed", request_id: "r1" },
    ]);
  });
});

describe("settling", () => {
  const settle = (id: string, workspace: string, item: string, ending = "dead") =>
    world.call("document_settle", {
      p_id: id,
      p_workspace: workspace,
      p_item: item,
      p_ending: ending,
      p_code: "work_attempts_used_up",
      p_text: "Gave up",
    });

  test("fails the document of a work item that died, with the reason of its last attempt", async () => {
    const { id, workspace } = await world.register();
    const first = attempt(id, workspace);
    await first.claim();
    await first.fail("retrying", "database_unavailable", "Away");
    expect(await settle(id, workspace, first.item)).toEqual({ status: "settled", state: "failed" });
    expect(await world.row(id)).toMatchObject({ error_code: "database_unavailable" });
  });

  test("fails the document of a work item whose workers died too often", async () => {
    const { id, workspace } = await world.register();
    const dead = attempt(id, workspace);
    await dead.claim();
    expect(await settle(id, workspace, dead.item)).toEqual({ status: "settled", state: "failed" });
    expect(await world.row(id)).toMatchObject({
      error_code: "work_attempts_used_up",
      error_text: "Gave up",
    });
    expect(await statusOf(dead.put())).toBe("lost");
    expect(await settle(id, workspace, dead.item)).toEqual({ status: "none" });
  });

  test("cancels the document of a work item that was cancelled", async () => {
    const { id, workspace } = await world.register();
    const answer = await settle(id, workspace, randomUUID(), "cancelled");
    expect(answer).toEqual({ status: "settled", state: "cancelled" });
  });

  test("of another workspace changes nothing", async () => {
    const { id } = await world.register();
    expect(await settle(id, randomUUID(), randomUUID())).toEqual({ status: "none" });
  });

  test("changes nothing for a document that is ready, or that another item has", async () => {
    const done = await ready();
    expect(await settle(done.id, done.workspace, randomUUID())).toEqual({ status: "none" });
    const { id, workspace } = await world.register();
    await attempt(id, workspace).claim();
    expect(await settle(id, workspace, randomUUID())).toEqual({ status: "none" });
    expect(await world.row(id)).toMatchObject({ state: "processing" });
  });
});

describe("the sweep", () => {
  const sweep = async (): Promise<string[]> => {
    const rows = (await world.call("document_sweep", {
      p_stale_seconds: 900,
      p_limit: 500,
    })) as unknown as { id: string }[];
    return rows.map(({ id }) => id);
  };
  const age = (id: string) => world.sql`
    update worker.documents set updated_at = now() - interval '20 minutes', lease_until = lease_until - interval '40 minutes'
     where id = ${id}`;

  test("answers documents that wait too long, once", async () => {
    const waiting = await world.register();
    const working = await world.register();
    await attempt(working.id, working.workspace).claim();
    const dead = await world.register();
    await attempt(dead.id, dead.workspace).claim();
    const done = await ready();
    for (const { id } of [waiting, dead, done]) await age(id);
    const swept = await sweep();
    expect(swept).toEqual(expect.arrayContaining([waiting.id, dead.id]));
    expect(swept).not.toEqual(expect.arrayContaining([working.id]));
    expect(swept).not.toEqual(expect.arrayContaining([done.id]));
    expect(await sweep()).toEqual([]);
  });
});
