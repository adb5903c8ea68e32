import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openRedis, type TestRedis } from "../support/stack.ts";

let redis: TestRedis;
beforeAll(async () => {
  redis = await openRedis();
});
afterAll(() => redis.close());

const runtime = new URL("../../src/lib/runtime/", import.meta.url).href;

/** Runs a module in a Node of its own, and tells how it ended by itself. */
async function runModule(
  body: string,
  meanwhile?: (child: ChildProcessWithoutNullStreams) => Promise<void>,
): Promise<{ code: number | null; output: string }> {
  const source = `
    import { createIoredisDriver } from "${runtime}ioredis-driver.redis.ts";
    import { createUpstashDriver } from "${runtime}upstash-driver.redis.ts";
    const drivers = [
      createIoredisDriver({ url: ${JSON.stringify(redis.url)}, timeoutMs: 60_000 }),
      createUpstashDriver({ ...${JSON.stringify(redis.upstash)}, timeoutMs: 60_000 }),
    ];
    const signal = new AbortController().signal;
    ${body}`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", source], { timeout: 10_000 });
  let output = "";
  child.stdout.on("data", (data) => (output += data));
  child.stderr.on("data", (data) => (output += data));
  const closed = once(child, "close");
  await meanwhile?.(child);
  const [code] = await closed;
  return { code, output };
}

test("a process whose drivers are closed ends by itself at once", async () => {
  const startedAt = performance.now();
  const ended = await runModule(`
    for (const driver of drivers) {
      await driver.pipeline([["SET", "k", "1"], ["GET", "k"]], signal);
      await driver.close();
    }
    console.log("done");`);
  expect(ended).toEqual({ code: 0, output: "done\n" });
  expect(performance.now() - startedAt).toBeLessThan(4000);
});

test("drivers that were built and never used hold nothing", async () => {
  expect(await runModule(`console.log("done");`)).toEqual({ code: 0, output: "done\n" });
});

test("a call that ends by its signal while Redis is frozen leaves nothing behind after close", async () => {
  redis.freeze();
  try {
    const ended = await runModule(`
      for (const driver of drivers) {
        const error = await driver.command(["GET", "k"], AbortSignal.timeout(100)).catch((e) => e);
        console.log(error.code);
        await driver.close();
      }`);
    expect(ended).toEqual({ code: 0, output: "deadline_exceeded\ndeadline_exceeded\n" });
  } finally {
    redis.thaw();
  }
});

test("a connection that is lost while nobody waits does not end the process", async () => {
  const ended = await runModule(
    `
    const [ioredis] = drivers;
    await ioredis.command(["SET", "k", "1"], signal);
    console.log("connected");
    await new Promise((resolve) => process.stdin.once("data", resolve));
    process.stdin.destroy();
    console.log(await ioredis.command(["GET", "k"], signal));
    await ioredis.close();`,
    async (child) => {
      await once(child.stdout, "data");
      await redis.restart();
      child.stdin.write("go on\n");
    },
  );
  expect(ended).toEqual({ code: 0, output: "connected\nnull\n" });
});
