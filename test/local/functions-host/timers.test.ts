import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type RunningHost, startHost } from "../../../local/functions-host/host.ts";
import { createApp, keptLog, tempDir, until } from "./support.ts";

const APP = `
import { app } from "@azure/functions";
app.timer("nightly", { schedule: "%NIGHTLY%", handler: (timer, context) => context.log("ran", timer.isPastDue) });
app.timer("switchedOff", { schedule: "* * * * * *", handler: (_timer, context) => context.log("ran") });
`;
/** Just before the run of the night. */
const START = Date.parse("2026-03-01T01:59:59.900Z");

const log = keptLog();
const stateFile = `${tempDir()}/timers.json`;
let host: RunningHost;

beforeAll(async () => {
  process.env["NIGHTLY"] = "0 2 * * *";
  process.env["AzureWebJobs.switchedOff.Disabled"] = "1";
  let startedAt: number | undefined; // the app takes its time to load
  host = await startHost({
    dir: createApp({ "package.json": { type: "module", main: "app.mjs" }, "app.mjs": APP }),
    port: 0,
    stateFile,
    logger: log.logger,
    now: () => {
      startedAt ??= performance.now();
      return START + Math.round(performance.now() - startedAt);
    },
  });
});
afterAll(() => host.stop());

test("a timer of a running host fires at its time and stores when", async () => {
  await until("the run", () => log.entries.some(({ message }) => message === "ran false"));
  const status = await until("the status", () => {
    const stored = JSON.parse(readFileSync(stateFile, "utf8")) as Record<string, { Last: string }>;
    const { Last } = stored["Host.Functions.nightly"] ?? {};
    return Last?.startsWith("2026-03-01T02:00:00") && stored;
  });
  expect(status).toMatchObject({
    "Host.Functions.nightly": { Next: "2026-03-02T02:00:00.000+00:00" },
  });
});

test("a disabled timer does not run", () => {
  expect(host.functions.map(({ name, isDisabled }) => [name, isDisabled])).toEqual([
    ["nightly", false],
    ["switchedOff", true],
  ]);
  expect(log.entries.some(({ functionName }) => functionName === "switchedOff")).toBe(false);
});

test("a host can be stopped twice", async () => {
  await Promise.all([host.stop(), host.stop()]);
  await expect(fetch(host.url)).rejects.toThrow();
});
