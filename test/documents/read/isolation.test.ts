import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { permanent } from "../../../src/lib/kernel/errors.ts";
import { openReadWorld, textOf } from "../../support/document-fixtures/read-world.ts";

const HOSTILE = fileURLToPath(
  new URL("../../support/document-fixtures/hostile-reader.child.ts", import.meta.url),
);
const MIB = 2 ** 20;
const world = openReadWorld();
afterAll(() => world.close());

const misbehave = (deed: string, limits = {}) =>
  world.fail("a.txt", deed, { entry: HOSTILE, limits });

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

describe("a parser that misbehaves", () => {
  test("in an endless loop is killed in time", async () => {
    const startedAt = performance.now();
    const error = await misbehave("loop", { durationMsMax: 1_500 });
    expect(error).toMatchObject({
      code: "document_resource_limit",
      kind: "transient",
      details: { reason: "time" },
    });
    expect(performance.now() - startedAt).toBeLessThan(5_000);
  });

  test("that fills its heap dies alone", async () => {
    const error = await misbehave("eat heap", { heapBytesMax: 64 * MIB });
    expect(error).toMatchObject({
      code: "document_resource_limit",
      details: { reason: "exit" },
    });
  });

  test("that takes memory beside the heap is killed for it", async () => {
    const error = await misbehave("eat buffers", { residentBytesMax: 256 * MIB });
    expect(error).toMatchObject({
      code: "document_resource_limit",
      details: { reason: "memory", max: 256 * MIB },
    });
  });

  test("that exhausts its stack is a resource limit too", async () => {
    expect(await misbehave("recurse")).toMatchObject({
      code: "document_resource_limit",
      details: { reason: "exhausted" },
    });
  });

  test.each(["exit", "abort"])("that ends the process (%s) leaves no result", async (deed) => {
    expect(await misbehave(deed)).toMatchObject({
      code: "document_resource_limit",
      details: { reason: "exit" },
    });
  });

  test.each(["lie about rows", "send nonsense", "flood"])(
    "that breaks the protocol (%s) is not believed",
    async (deed) => {
      expect(await misbehave(deed, { charactersMax: 1_000, cellsMax: 1_000 })).toMatchObject({
        code: "document_resource_limit",
        details: { reason: "protocol" },
      });
    },
  );

  test.each(["write a file", "start a process", "open a connection"])(
    "may not %s",
    async (deed) => {
      const error = await misbehave(deed);
      expect(error.code).toBe("document_corrupt");
      expect(existsSync(join(tmpdir(), "written-by-a-parser"))).toBe(false);
    },
  );

  test("sees nothing of the environment", async () => {
    const document = await world.read("a.txt", "show the environment", { entry: HOSTILE });
    expect(textOf(document)).not.toMatch(/PATH|SUPABASE|HOME/);
  });
});

describe("cancelling", () => {
  test("kills the process and ends with the reason of the caller", async () => {
    const controller = new AbortController();
    const reading = world.fail("a.txt", "loop", { entry: HOSTILE, signal: controller.signal });
    controller.abort(permanent("alert_unknown"));
    expect((await reading).code).toBe("alert_unknown");
  });

  test("before the start starts nothing", async () => {
    const signal = AbortSignal.abort(permanent("alert_unknown"));
    expect((await world.fail("a.txt", "hola", { signal })).code).toBe("alert_unknown");
  });
});

/** Starts a reading process that never ends, and waits to be killed. */
const PARENT = `
import { fork } from "node:child_process";
const [entry, path] = process.argv.slice(1);
const child = fork(entry, [], { stdio: ["ignore", "ignore", "ignore", "ipc"] });
child.send({ path, name: "a.txt", limits: {} });
console.log(child.pid);`;

test("a reading process in an endless loop ends when its parent is killed", async () => {
  const folder = mkdtempSync(join(tmpdir(), "worker-service-loop-"));
  writeFileSync(join(folder, "a.txt"), "loop");
  const args = ["--input-type=module", "-e", PARENT, HOSTILE, join(folder, "a.txt")];
  const parent = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "ignore"] });
  const [line] = await once(parent.stdout, "data");
  const pid = Number(String(line));
  parent.kill("SIGKILL");
  await expect.poll(() => isAlive(pid), { timeout: 10_000, interval: 50 }).toBe(false);
  rmSync(folder, { recursive: true });
});
