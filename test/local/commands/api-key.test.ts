import { expect, test } from "vitest";
import { findApiKey, parseApiKeys } from "../../../src/lib/kernel/api-keys.ts";
import { runLocalCommand } from "../../support/run-command.ts";

const apiKey = async (...args: string[]) => {
  const run = runLocalCommand("local/api-key.ts", args);
  return { code: await run.ended, stdout: run.stdout(), stderr: run.stderr() };
};

test("a new key opens the service with the entry that is printed with it", async () => {
  const { code, stdout } = await apiKey("--name", "billing-product", "--role", "producer");
  const key = /^ {2}(wsk_[\w-]{43})$/m.exec(stdout)?.[1] ?? "";
  const entry = /^ {2}(billing-product:producer:sha256:[0-9a-f]{64})$/m.exec(stdout)?.[1] ?? "";
  const parsed = parseApiKeys(entry);
  expect(code).toBe(0);
  expect(parsed.kind === "keys" && findApiKey(parsed.keys, key)?.role).toBe("producer");
});

test("a key may be limited to parts of the API", async () => {
  const { stdout } = await apiKey("--name", "a", "--role", "viewer", "--scopes", "usage+cron");
  const entry = /^ {2}(a:viewer:sha256:\S+)$/m.exec(stdout)?.[1] ?? "";
  expect(parseApiKeys(entry)).toMatchObject({ keys: [{ scopes: ["usage", "cron"] }] });
});

test("two keys are never the same", async () => {
  const args = ["--name", "a", "--role", "admin"] as const;
  const [one, other] = await Promise.all([apiKey(...args), apiKey(...args)]);
  expect(one.stdout).not.toBe(other.stdout);
});

test.each([
  [["--name", "a", "--role", "root"], /--role must be one of producer, viewer, operator, admin/, 1],
  [["--name", "No Spaces", "--role", "admin"], /--name must be lower-case letters/, 1],
  [["--name", "a", "--role", "admin", "--scopes", "a b"], /--scopes such as usage\+cron/, 1],
  [["--role", "admin"], /--name and --role are needed/, 1],
  [["--rolle", "admin"], /Unknown option '--rolle'[\s\S]*npm run api-key/, 2],
])("%j is refused and says what is wrong", async (args, message, expected) => {
  const { code, stdout, stderr } = await apiKey(...args);
  expect(stderr).toMatch(message);
  expect([code, stdout]).toEqual([expected, ""]);
});
