import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { processDocument } from "../../src/lib/documents/process-document.ts";
import {
  documentRun,
  longText,
  openPipelineWorld,
  type PipelineWorld,
  type StoredDocument,
} from "../documents/pipeline-world.ts";
import { failCalls } from "../support/failing-calls.ts";

/** An attempt that dies at any of its calls, before it or after it, followed by one that does not. */
let world: PipelineWorld;
beforeAll(async () => {
  world = await openPipelineWorld();
});
afterAll(() => world.close());

const TEXT = longText("contrato");
const ITEMS_MAX = 30;

/** Every port of an attempt, its endings too: a killed worker says nothing. */
function attempt(
  document: StoredDocument,
  item: string,
  fence: number,
  saboteur = failCalls(Infinity, "before"),
) {
  const { documentWork, documentEndings, storedObjects, ...rest } = world.deps;
  const deps = {
    ...rest,
    documentWork: saboteur.wrap(documentWork),
    storedObjects: saboteur.wrap(storedObjects),
    documentEndings: {
      ...documentEndings,
      fail: () => Promise.reject(new Error("killed")),
      release: () => Promise.reject(new Error("killed")),
    },
  };
  return processDocument(deps, document.message, documentRun({ itemId: item, fence }));
}

/** What may not depend on how often somebody died. */
async function endOf({ id }: StoredDocument) {
  const { state, chunk_count: chunks, failures, claim_item: holder } = await world.row(id);
  const [rows] = await world.sql`
    select count(*)::int as stored, count(distinct ordinal)::int as ordinals, count(distinct version)::int as versions
      from worker.document_chunks where document_id = ${id}`;
  return { state, chunks, failures, holder, ...rows, contents: await world.contents(id) };
}

async function undisturbed(again: string | undefined) {
  const document = await world.add(again ?? TEXT);
  const saboteur = failCalls(Infinity, "before");
  await attempt(document, randomUUID(), 1, saboteur);
  return { end: await endOf(document), calls: saboteur.calls() };
}

describe.each(["before", "after"] as const)("a worker killed %s any call", (when) => {
  test("of a first attempt leaves nothing that the next one does not mend", async () => {
    const { end, calls } = await undisturbed(undefined);
    expect(calls).toBeGreaterThan(5);
    expect(calls).toBeLessThan(ITEMS_MAX);
    for (let call = 1; call <= calls; call += 1) {
      const document = await world.add(TEXT);
      const item = randomUUID();
      await expect(attempt(document, item, 1, failCalls(call, when))).rejects.toThrow(/./);
      await attempt(document, item, 2);
      expect(await endOf(document), `call ${call}`).toEqual(end);
    }
  });

  test("while the document has an old version serves one of the two, whole, at every moment", async () => {
    const NEW = longText("anexo");
    const { end, calls } = await undisturbed(NEW);
    for (let call = 1; call <= calls; call += 1) {
      const document = await world.add(TEXT);
      await attempt(document, randomUUID(), 1);
      const old = await world.contents(document.id);
      await world.upload(
        document.workspace,
        document.path.slice(document.workspace.length + 1),
        NEW,
      );
      const item = randomUUID();
      await expect(attempt(document, item, 1, failCalls(call, when))).rejects.toThrow(/./);
      expect([old, end.contents], `call ${call}`).toContainEqual(await served(document));
      await attempt(document, item, 2);
      expect(await endOf(document), `call ${call}`).toEqual(end);
    }
  });
});

async function served({ id, workspace }: StoredDocument): Promise<string[]> {
  const read = { p_id: id, p_workspace: workspace, p_from: 0, p_limit: 200 };
  const answer = await world.call("document_read_chunks", read);
  return (answer["rows"] as { content: string }[]).map(({ content }) => content);
}
