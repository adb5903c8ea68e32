import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { processTree, stillRunning } from "../../support/process-tree.ts";
import { runLocalCommand } from "../../support/run-command.ts";

const dir = mkdtempSync(join(tmpdir(), "worker-service-func-"));
const nodeDir = dirname(process.execPath);
beforeAll(() => chmodSync(dir, 0o755));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

test("without Core Tools it says how to install them", async () => {
  const run = runLocalCommand("local/start-func.ts", ["--dir", dir], { PATH: nodeDir });
  expect(await run.ended).toBe(1);
  expect(run.stderr()).toMatch(/func is not on the PATH[\s\S]*azure-functions-core-tools@4/);
});

test("func gets the built package, the port and the settings, and ends with us", async () => {
  // Stands for Core Tools, which are no dependency: writes down how it was called, and runs until it is told to end.
  const script = `#!/bin/sh
{ pwd; echo "$@"; env; } > ${dir}/called
echo CALLED
trap 'exit 0' TERM
while :; do sleep 0.1; done
`;
  writeFileSync(join(dir, "func"), script, { mode: 0o755 });
  const env = { PATH: `${dir}:${process.env["PATH"]}`, REDIS_URL: "redis://somewhere.else:6379" };
  const args = ["--dir", dir, "--database", "postgres", "--port", "7999"];
  const run = runLocalCommand("local/start-func.ts", args, env);
  await run.until(/CALLED/);
  const [cwd, call, ...settings] = readFileSync(join(dir, "called"), "utf8").split("\n");
  expect(cwd).toMatch(/\/\.package$/);
  expect(call).toBe("start --port 7999");
  const names = settings.map((line) => line.split("=")[0]);
  expect(names).toEqual(
    expect.arrayContaining([
      "SUPABASE_URL",
      "UPSTASH_REDIS_REST_URL",
      "AzureWebJobsStorage",
      "API_KEYS",
    ]),
  );
  expect(settings).toContain("FUNCTIONS_WORKER_RUNTIME=node");
  expect(names).not.toContain("REDIS_URL");

  const pids = processTree(run.pid).map(({ pid }) => pid);
  run.child.kill("SIGINT");
  expect(await run.ended).toBe(0);
  await expect
    .poll(() => stillRunning(pids).filter(({ command }) => !command.startsWith("sleep")))
    .toEqual([]);
});
