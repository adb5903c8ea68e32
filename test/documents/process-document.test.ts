import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { chunksOf } from "../../src/lib/documents/chunk/chunk-blocks.ts";
import type { DocumentWork } from "../../src/lib/documents/document-claim.ts";
import { type ProcessDeps, processDocument } from "../../src/lib/documents/process-document.ts";
import type { AppError } from "../../src/lib/kernel/errors.ts";
import { permanent, transient } from "../../src/lib/kernel/errors.ts";
import { registration } from "./document-world.ts";
import {
  BYTES_MAX,
  documentRun,
  longText,
  openPipelineWorld,
  type PipelineWorld,
  readText,
} from "./pipeline-world.ts";

let world: PipelineWorld;
beforeAll(async () => {
  world = await openPipelineWorld();
});
afterAll(() => world.close());

const process = (
  message: { documentId: string; workspaceId: string },
  run = documentRun(),
  deps: Partial<ProcessDeps> = {},
) => processDocument({ ...world.deps, ...deps }, message, run);
const failureOf = (work: Promise<unknown>): Promise<AppError> =>
  work.then(
    () => Promise.reject(new Error("it succeeded")),
    (error) => error,
  );

describe("a document", () => {
  test("becomes chunks that are served, with what was found out about it", async () => {
    const { id, message } = await world.add(longText("contrato"));
    const result = await process(message);
    expect(result).toMatchObject({ outcome: "ready", version: 1 });
    const row = await world.row(id);
    expect(row).toMatchObject({ state: "ready", stage: null, active_version: 1, type: "text" });
    expect(Number(row["chunk_count"])).toBeGreaterThan(5);
    expect(await world.contents(id)).toHaveLength(Number(row["chunk_count"]));
  });

  test("is processed once when its message comes twice", async () => {
    const { id, message } = await world.add(longText("doble"));
    await process(message);
    const before =
      await world.sql`select ctid, * from worker.document_chunks where document_id = ${id}`;
    expect(await process(message)).toMatchObject({ outcome: "unchanged" });
    const after =
      await world.sql`select ctid, * from worker.document_chunks where document_id = ${id}`;
    expect([...after]).toEqual([...before]);
    expect(await world.row(id)).toMatchObject({ state: "ready", active_version: 1 });
  });

  test("is processed once when two workers get it at the same time", async () => {
    const { id, message } = await world.add(longText("carrera"));
    const ends = await Promise.allSettled([process(message), process(message)]);
    const lost = ends.filter((end) => end.status === "rejected").map(({ reason }) => reason.code);
    const outcomes = ends.flatMap((end) =>
      end.status === "fulfilled" ? [end.value["outcome"]] : [],
    );
    expect([...outcomes, ...lost].sort()).toEqual(
      lost.length === 1 ? ["document_busy", "ready"] : ["ready", "unchanged"],
    );
    const [count] = await world.sql`
      select count(*)::int as chunks, count(distinct ordinal)::int as ordinals, count(distinct version)::int as versions
        from worker.document_chunks where document_id = ${id}`;
    expect(count).toMatchObject({ chunks: count?.["ordinals"], versions: 1 });
  });

  test("with new content is served anew, without what is not in it any more", async () => {
    const { id, workspace, path, message } = await world.add(longText("antes"));
    await process(message);
    await world.upload(workspace, path.slice(workspace.length + 1), longText("despues"));
    expect(await process(message)).toMatchObject({ outcome: "ready", version: 2 });
    expect((await world.contents(id)).join(" ")).not.toContain("antes");
  });

  test("is processed anew by a new pipeline, or when somebody insists", async () => {
    const { id, workspace, message } = await world.add("Un texto.");
    await process(message);
    const pipelineVersions = { reader: "text-2", chunker: "c" };
    const newer = await process(message, documentRun(), { pipelineVersions });
    expect(newer).toMatchObject({ outcome: "ready", version: 2 });
    const request = { p_id: id, p_workspace: workspace, p_force: true, p_audit: null };
    await world.call("document_request", request);
    const forced = await process(message, documentRun(), { pipelineVersions });
    expect(forced).toMatchObject({ outcome: "ready", version: 3 });
    const again = await process(message, documentRun(), { pipelineVersions });
    expect(again).toMatchObject({ outcome: "unchanged" });
  });
});

describe("a worker that dies", () => {
  test.each(["known", "stage", "finish"] as const)(
    "before %s is followed by one that ends with the same chunks, once",
    async (method) => {
      const { id, message } = await world.add(longText("muere"));
      const item = randomUUID();
      const never = new Promise<never>(() => {});
      const reached = Promise.withResolvers<void>();
      const hang = () => {
        reached.resolve();
        return never;
      };
      const documentWork: DocumentWork = { ...world.deps.documentWork, [method]: hang };
      void process(message, documentRun({ itemId: item }), { documentWork });
      await reached.promise;
      const result = await process(message, documentRun({ itemId: item, fence: 2 }));
      expect(result).toMatchObject({ outcome: "ready", version: 2 });
      const reference = await world.add(longText("muere"));
      await process(reference.message);
      expect(await world.contents(id)).toEqual(await world.contents(reference.id));
    },
  );

  test("and wakes up writes nothing, at any stage", async () => {
    for (const method of ["touch", "stage", "finish"] as const) {
      const { id, message } = await world.add(longText("zombi"));
      const item = randomUUID();
      const asleep = Promise.withResolvers<void>();
      const wake = Promise.withResolvers<void>();
      const work = world.deps.documentWork;
      const documentWork = {
        ...work,
        [method]: async (...args: never[]) => {
          asleep.resolve();
          await wake.promise;
          return (work[method] as (...args: never[]) => unknown)(...args);
        },
      } as DocumentWork;
      const zombie = failureOf(process(message, documentRun({ itemId: item }), { documentWork }));
      await asleep.promise;
      await process(message, documentRun({ itemId: item, fence: 2 }));
      const before = await world.row(id);
      wake.resolve();
      expect(await zombie).toMatchObject({ code: "document_taken", kind: "transient" });
      expect(await world.row(id)).toEqual(before);
      expect(before).toMatchObject({ state: "ready", active_version: 2 });
    }
  });
});

describe("while a document is processed again", () => {
  test("its old version is served, also when the attempt fails", async () => {
    const { id, workspace, path, message } = await world.add("La version vieja.");
    await process(message);
    await world.upload(workspace, path.slice(workspace.length + 1), "La version nueva.");
    const served = async () => {
      const read = { p_id: id, p_workspace: workspace, p_from: 0, p_limit: 10 };
      const answer = await world.call("document_read_chunks", read);
      return (answer["rows"] as { content: string }[]).map(({ content }) => content);
    };
    const seen: string[][] = [];
    const work = world.deps.documentWork;
    const documentWork: DocumentWork = {
      ...work,
      finish: async () => {
        seen.push(await served());
        throw permanent("document_corrupt");
      },
    };
    await failureOf(process(message, documentRun(), { documentWork }));
    expect(seen).toEqual([["La version vieja."]]);
    expect(await served()).toEqual(["La version vieja."]);
    expect(await world.row(id)).toMatchObject({ state: "failed", error_code: "document_corrupt" });
    await process(message);
    expect(await served()).toEqual(["La version nueva."]);
  });

  test("texts that did not change keep their place among the chunks", async () => {
    const { workspace, path, message, id } = await world.add(longText("igual"));
    await process(message);
    await world.upload(
      workspace,
      path.slice(workspace.length + 1),
      `${longText("igual")}\nUna mas.`,
    );
    expect(await process(message)).toMatchObject({ outcome: "ready", version: 2 });
    expect((await world.contents(id)).at(-1)).toContain("Una mas.");
  });
});

describe("a cancel", () => {
  const cancel = (id: string, workspace: string) =>
    world.call("document_cancel", { p_id: id, p_workspace: workspace, p_audit: null });

  test.each(["touch", "known", "stage", "finish"] as const)(
    "just before %s ends the attempt without a trace",
    async (method) => {
      const { id, workspace, message } = await world.add(longText("cancela"));
      const work = world.deps.documentWork;
      const documentWork = {
        ...work,
        [method]: async (...args: never[]) => {
          await cancel(id, workspace);
          return (work[method] as (...args: never[]) => unknown)(...args);
        },
      } as DocumentWork;
      expect(await process(message, documentRun(), { documentWork })).toEqual({
        outcome: "cancelled",
      });
      expect(await world.row(id)).toMatchObject({ state: "cancelled", active_version: null });
    },
  );

  test.each(["fetch", "read", "chunk", "embed"])(
    "while it waits for %s stops the waiting",
    async (stage) => {
      const { id, workspace, message } = await world.add(longText("espera"));
      const controller = new AbortController();
      const waiting = Promise.withResolvers<void>();
      const wait = (signal: AbortSignal) =>
        new Promise<never>((_, reject) => {
          signal.addEventListener("abort", () => reject(signal.reason), { once: true });
          waiting.resolve();
        });
      const deps: Partial<ProcessDeps> =
        stage === "fetch"
          ? { storedObjects: { open: (_, signal) => wait(signal) } }
          : stage === "read"
            ? { readFile: (_, signal) => wait(signal) }
            : stage === "chunk"
              ? { chunksOf: endless(waiting.resolve) }
              : { embedder: { ...world.deps.embedder, embed: (_, signal) => wait(signal) } };
      const run = documentRun({ signal: controller.signal });
      const working = failureOf(process(message, run, deps));
      await waiting.promise;
      await cancel(id, workspace);
      controller.abort(transient("deadline_exceeded"));
      await working;
      expect(await world.row(id)).toMatchObject({ state: "cancelled", active_version: null });
    },
  );

  test("of the work without the document, as by a shutdown, gives the document back", async () => {
    const { id, message } = await world.add(longText("apaga"));
    const controller = new AbortController();
    const readFile: ProcessDeps["readFile"] = async () => {
      controller.abort(transient("deadline_exceeded"));
      throw controller.signal.reason;
    };
    await failureOf(process(message, documentRun({ signal: controller.signal }), { readFile }));
    expect(await world.row(id)).toMatchObject({ state: "queued", failures: 0, error_code: null });
  });

  test("of a deleted document is no failure", async () => {
    const { id, workspace, message } = await world.add("Se va.");
    await world.call("document_delete", { p_id: id, p_workspace: workspace, p_audit: null });
    expect(await process(message)).toEqual({ outcome: "gone" });
  });
});

/** A chunker that never ends by itself. */
const endless = (started: () => void): ProcessDeps["chunksOf"] =>
  function* (blocks) {
    const [chunk] = chunksOf(blocks);
    if (chunk === undefined) return;
    for (;;) {
      yield chunk;
      started();
    }
  };

describe("what a message may not do", () => {
  test("touch a document of another workspace; that is a security event", async () => {
    const { id, message } = await world.add("Secreto.");
    const before = await world.row(id);
    const run = documentRun();
    const error = await failureOf(process({ ...message, workspaceId: randomUUID() }, run));
    expect(error).toMatchObject({ code: "document_workspace_mismatch", kind: "permanent" });
    expect(run.lines).toMatchObject([{ level: "warn", event: "document_workspace_mismatch" }]);
    expect(await world.row(id)).toEqual(before);
  });

  test("speak of a document that nobody registered, for longer than a commit takes", async () => {
    const message = { documentId: randomUUID(), workspaceId: randomUUID() };
    expect(await failureOf(process(message))).toMatchObject({
      code: "document_unknown",
      kind: "transient",
    });
    expect(await failureOf(process(message, documentRun({ attempt: 3 })))).toMatchObject({
      code: "document_unknown",
      kind: "permanent",
    });
  });
});

describe("an upload", () => {
  const registerAbsent = async () => {
    const workspace = randomUUID();
    const path = `${workspace}/late.txt`;
    const { id } = await world.call("document_register", registration(workspace, { p_path: path }));
    return { workspace, message: { documentId: String(id), workspaceId: workspace } };
  };

  test("that is still on its way is waited for", async () => {
    const { workspace, message } = await registerAbsent();
    expect(await failureOf(process(message))).toMatchObject({
      code: "document_missing",
      kind: "transient",
      details: { retryAfterMs: 60_000 },
    });
    expect(await world.row(message.documentId)).toMatchObject({ state: "retrying", absences: 1 });
    await world.upload(workspace, "late.txt", "Here it is.");
    expect(await process(message)).toMatchObject({ outcome: "ready" });
    expect(await world.row(message.documentId)).toMatchObject({ absences: 0, error_code: null });
  });

  test("that never comes is missing after three more looks within ten minutes", async () => {
    const { message } = await registerAbsent();
    const waits: unknown[] = [];
    for (let look = 1; look <= 3; look += 1) {
      const error = await failureOf(process(message));
      expect(error).toMatchObject({ kind: "transient" });
      waits.push(error.details["retryAfterMs"]);
    }
    expect(waits.reduce((sum: number, ms) => sum + Number(ms), 0)).toBeLessThanOrEqual(600_000);
    expect(await failureOf(process(message))).toMatchObject({
      code: "document_missing",
      kind: "permanent",
    });
    expect(await world.row(message.documentId)).toMatchObject({ state: "missing" });
  });

  test("that is larger than allowed is refused", async () => {
    const { id, message } = await world.add("x".repeat(BYTES_MAX + 1));
    expect(await failureOf(process(message))).toMatchObject({ code: "document_too_large" });
    expect(await world.row(id)).toMatchObject({ state: "failed", active_version: null });
  });
});

describe("a failure", () => {
  const failWith = async (error: unknown) => {
    const { id, message } = await world.add("Un texto.");
    const readFile: ProcessDeps["readFile"] = () => Promise.reject(error);
    const failure = await failureOf(process(message, documentRun(), { readFile }));
    return { failure, id, message, readFile };
  };

  test.each([
    ["document_encrypted", "failed"],
    ["document_unsupported_type", "unsupported"],
    ["document_legacy_format", "unsupported"],
  ] as const)("%s is final: %s", async (code, state) => {
    const { failure, id } = await failWith(permanent(code));
    expect(failure).toMatchObject({ kind: "permanent", code });
    expect(await world.row(id)).toMatchObject({ state, error_code: code });
  });

  test("that may pass is tried again by the queue", async () => {
    const { failure, id, message } = await failWith(transient("blob_unavailable"));
    expect(failure).toMatchObject({ kind: "transient", code: "blob_unavailable" });
    expect(await world.row(id)).toMatchObject({ state: "retrying", failures: 1 });
    expect(await process(message)).toMatchObject({ outcome: "ready" });
    expect(await world.row(id)).toMatchObject({ state: "ready", failures: 0 });
  });

  test("for want of memory or time is tried once more, not twice", async () => {
    const { failure, id, message, readFile } = await failWith(transient("document_resource_limit"));
    expect(failure).toMatchObject({ kind: "transient" });
    expect(await failureOf(process(message, documentRun(), { readFile }))).toMatchObject({
      kind: "permanent",
      code: "document_resource_limit",
    });
    expect(await world.row(id)).toMatchObject({ state: "failed" });
  });

  test("of the configuration is nobody's document: it is tried slowly until somebody repairs it", async () => {
    const { id, message } = await world.add("Un texto.");
    const embed = () => Promise.reject(permanent("embedder_refused"));
    const embedder = { ...world.deps.embedder, embed };
    const failure = await failureOf(process(message, documentRun(), { embedder }));
    expect(failure).toMatchObject({
      kind: "transient",
      code: "embedder_refused",
      details: { retryAfterMs: 1_800_000 },
    });
    expect(await world.row(id)).toMatchObject({ state: "retrying" });
  });

  test("nobody knows says nothing of its text", async () => {
    const { failure, id } = await failWith(new Error("content of the document: secret"));
    expect(failure).toMatchObject({ kind: "transient", code: "unclassified" });
    expect(await world.row(id)).toMatchObject({
      state: "retrying",
      error_text: "The document could not be processed",
    });
  });

  test("to say how it ended leaves the document to its lease, with the first reason", async () => {
    const { message } = await world.add("Un texto.");
    const documentEndings = {
      ...world.deps.documentEndings,
      fail: () => Promise.reject(transient("database_unavailable")),
    };
    const readFile: ProcessDeps["readFile"] = () => Promise.reject(permanent("document_corrupt"));
    const failure = await failureOf(process(message, documentRun(), { readFile, documentEndings }));
    expect(failure).toMatchObject({ code: "document_corrupt" });
  });

  test("leaves no file behind", async () => {
    let path = "";
    const readFile: ProcessDeps["readFile"] = async (file, signal) => {
      path = file.path;
      await readText(file, signal);
      throw permanent("document_corrupt");
    };
    const { message } = await world.add("Un texto.");
    await failureOf(process(message, documentRun(), { readFile }));
    expect(path).not.toBe("");
    await expect(readText({ path, name: "" }, new AbortController().signal)).rejects.toThrow(
      "ENOENT",
    );
  });
});
