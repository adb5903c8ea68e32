import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import {
  afterTests,
  createApp,
  fixture,
  runWorker,
  startAndStop,
  startWorker,
  type TestWorker,
  tempDir,
  until,
} from "./support.ts";

const WORKER = fileURLToPath(new URL("../../../local/functions-host/worker.ts", import.meta.url));
const TYPESCRIPT_APP = ["--entry", "app.ts"];

interface SeenRun {
  readonly functionName: string;
  readonly invocationId: string;
  readonly isPastDue: boolean;
  readonly retryContext?: { retryCount: number; maxRetryCount: number; exception: object };
}

/** The yearly timer `missed` was due in the year before; the other one ran. */
function stateOfLastYear(): string {
  const file = `${tempDir()}/timers.json`;
  const year = new Date().getUTCFullYear();
  const at = (y: number) => `${y}-01-01T00:00:00.000+00:00`;
  const missed = { Last: at(year - 2), Next: at(year - 1), LastUpdated: at(year - 2) };
  const ran = { Last: at(year), Next: at(year + 1), LastUpdated: at(year) };
  const content = { "Host.Functions.missed": missed, "Host.Functions.notMissed": ran };
  writeFileSync(file, JSON.stringify(content));
  return file;
}

describe("a worker", () => {
  let worker: TestWorker;
  beforeAll(async () => {
    const args = [...TYPESCRIPT_APP, "--state", stateOfLastYear()];
    worker = await startWorker(fixture("typescript-app"), args, { TZ: "America/New_York" });
  });
  const text = async (path: string) => (await fetch(`${worker.url}/api/${path}`)).text();

  test("runs a missed timer once, and again with a retry context as long as it fails", async () => {
    const runs = await until("three runs", async () => {
      const seen = JSON.parse(await text("runs")) as SeenRun[];
      return seen.length >= 3 && seen;
    });
    const functionName = "missed";
    expect(runs).toMatchObject([
      { functionName, isPastDue: true },
      { functionName, retryContext: { retryCount: 1, maxRetryCount: 3 } },
      { functionName, retryContext: { retryCount: 2, exception: { message: "not yet" } } },
    ]);
    expect(runs[0]?.retryContext).toBeUndefined();
    expect(new Set(runs.map(({ invocationId }) => invocationId)).size).toBe(3);
  });

  test("thinks in UTC, whatever zone the machine has", async () => {
    expect(await text("zone")).toBe("0 UTC");
  });

  test("asks for no key unless told so", async () => {
    expect(await text("guarded")).toBe("open");
  });

  test("takes what the app prints into its log, before and after it is ready", async () => {
    expect(worker.printed()).toMatch(/\d\d:\d\d:\d\d info {2}app: printed while loading/);
    expect(worker.printed()).toMatch(/WARN {2}app: a warning while loading/);
  });

  test("lists its functions", async () => {
    await until("the list", () => worker.printed().includes("zone: httpTrigger"));
    expect(worker.printed()).toContain("missed: timerTrigger 0 0 0 1 1 *");
  });

  test("ends the wait for a function at its timeout, and says so", async () => {
    const answer = await fetch(`${worker.url}/api/stuck`);
    expect(answer.status).toBe(500);
    expect(worker.printed()).toContain(
      "Timeout value of 1000 ms was exceeded by function: Functions.stuck",
    );
  });

  test("that loses its parent lets the running function end, runs the hooks and ends", async () => {
    const slow = text("slow");
    await until("the function", () => worker.printed().includes("slow_started"));
    await worker.stop(); // only ends its stdin
    expect(await slow).toBe("done");
    expect(await worker.ended).toBe("exit code 0");
    const printed = worker.printed();
    expect(printed).toContain("info  slow: slow_started step=1\n");
    expect(printed).toContain("app: closed what appStart opened");
    expect(printed.indexOf("slow ended")).toBeLessThan(printed.indexOf("closed what appStart"));
  });
});

describe("a streaming worker", () => {
  let worker: TestWorker;
  beforeAll(async () => {
    worker = await startWorker(fixture("stream-app"), ["--enable-auth"]);
  });

  test("hands a chunked upload to its function", async () => {
    const body = new ReadableStream({
      start: (controller) => {
        controller.enqueue(new TextEncoder().encode("in chunks"));
        controller.close();
      },
    });
    const answer = await fetch(`${worker.url}/api/echo/x?a=1`, {
      method: "POST",
      body,
      duplex: "half",
    });
    const url = `${worker.url}/api/echo/x?a=1`;
    expect(await answer.json()).toEqual({ body: "in chunks", params: { name: "x" }, url });
  });

  test("sends each part of a response when it is there", async () => {
    const answer = await fetch(`${worker.url}/api/chunks`);
    const parts = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
    expect((await parts?.read())?.value).toBe("first\n");
    await fetch(`${worker.url}/api/release`, { method: "POST" });
    expect((await parts?.read())?.value).toBe("second\n");
    expect((await parts?.read())?.done).toBe(true);
  });

  test("answers 500 when the handler throws", async () => {
    expect((await fetch(`${worker.url}/api/throws`)).status).toBe(500);
  });

  test("prints the master key it made, which opens the admin endpoints", async () => {
    const [, key = ""] = await until("the key", () => {
      return /master key: (\S+)/.exec(worker.printed()) ?? undefined;
    });
    const status = async (headers: Record<string, string>) =>
      (await fetch(`${worker.url}/admin/host/status`, { headers })).status;
    expect(await status({})).toBe(401);
    expect(await status({ "x-functions-key": key })).toBe(200);
  });

  test("ends at SIGTERM", async () => {
    worker.signal("SIGTERM");
    expect(await worker.ended).toBe("exit code 0");
  });
});

const MODULE = { type: "module", main: "main.mjs" };
const REGISTER =
  'import { app } from "@azure/functions"; app.http("one", { handler: () => ({}) });';

const broken: [what: string, files: Record<string, string | object>, reason: RegExp][] = [
  [
    "throws while it loads, even after a registration",
    { "package.json": MODULE, "main.mjs": `${REGISTER} throw new Error("boom at load");` },
    /The app cannot be loaded: main\.mjs throws\nError: boom at load\n {4}at /,
  ],
  [
    "registers nothing",
    { "package.json": MODULE, "main.mjs": "export {};" },
    /The app registered no function/,
  ],
  [
    "has a hook that fails the start",
    {
      "package.json": MODULE,
      "main.mjs": `${REGISTER} app.hook.appStart(() => { throw new Error("hook failed"); });`,
    },
    /hook failed/,
  ],
  [
    "polls a queue without a connection",
    {
      "package.json": MODULE,
      "main.mjs": REGISTER.replace(
        'app.http("one", {',
        'app.storageQueue("one", { connection: "NotSet", queueName: "abc",',
      ),
    },
    /^The connection "NotSet" is not set: give NotSet a connection string\.\n$/,
  ],
];

describe.concurrent("a start fails and names the reason when the app", () => {
  test.each(broken)("%s", async (_what, files, reason) => {
    const { code, stdout, stderr } = await runWorker(["--dir", createApp(files), "--port", "0"]);
    expect(stderr).toMatch(reason);
    expect([code, stdout]).toEqual([1, ""]);
  });
});

test("a taken port is reported with its number and what to do", async () => {
  const other = createServer().listen(0, "127.0.0.1");
  await once(other, "listening");
  const { port } = other.address() as AddressInfo;
  const args = ["--dir", fixture("stream-app"), "--port", String(port)];
  const { code, stderr } = await runWorker(args);
  other.close();
  expect(code).toBe(1);
  expect(stderr).toMatch(new RegExp(`^Port ${port} of 127\\.0\\.0\\.1 is taken\\. .* --port `));
});

test("an option that is not known ends with the help, and the help can be asked for", async () => {
  const [wrong, help] = await Promise.all([runWorker(["--prot", "1"]), runWorker(["--help"])]);
  expect([wrong.code, help.code]).toEqual([2, 0]);
  expect(wrong.stderr).toContain("--port N");
  expect(help.stdout).toContain("--port N");
});

test("READY is the first line on stdout, and with --json every other line is JSON", async () => {
  const args = ["--dir", fixture("typescript-app"), ...TYPESCRIPT_APP, "--port", "0", "--json"];
  const child = spawn(process.execPath, [WORKER, ...args, "--no-timers"], {
    stdio: ["pipe", "pipe", "pipe"],
  });
  afterTests(() => child.kill("SIGKILL"));
  let stdout = "";
  child.stdout.setEncoding("utf8").on("data", (text) => {
    stdout += text;
  });
  await until("the summary", () => stdout.includes("zone"));
  child.kill("SIGINT");
  const [code] = await once(child, "close");
  const [first, ...others] = stdout.trimEnd().split("\n");
  expect(first).toMatch(/^READY http:\/\/127\.0\.0\.1:\d+$/);
  const categories = others.map((line) => (JSON.parse(line) as { category: string }).category);
  expect(new Set(categories)).toEqual(new Set(["Host", "Host.Function.Console"]));
  expect(code).toBe(0);
});

test("a host that was stopped leaves nothing that keeps its process alive", async () => {
  const { code, stderr } = await startAndStop(fixture("stream-app"));
  expect([code, stderr]).toEqual([0, ""]);
});

test("a parent that is killed leaves no worker behind", async () => {
  const script = `
    const { spawn } = await import("node:child_process");
    const args = ${JSON.stringify([WORKER, "--dir", fixture("stream-app"), "--port", "0"])};
    const child = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"], detached: true });
    child.stdout.on("data", (text) => console.log(child.pid, String(text)));
    setInterval(() => {}, 1000);`;
  const parent = spawn(process.execPath, ["--input-type=module", "-e", script]);
  afterTests(() => parent.kill("SIGKILL"));
  let printed = "";
  parent.stdout.setEncoding("utf8").on("data", (text) => {
    printed += text;
  });
  const pid = await until(
    "the worker",
    () => Number(/(\d+) READY/.exec(printed)?.[1]) || undefined,
  );
  afterTests(() => isAlive(pid) && process.kill(pid, "SIGKILL"));
  expect(isAlive(pid)).toBe(true);
  parent.kill("SIGKILL");
  await until("the end of the worker", () => !isAlive(pid));
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
