import { QueueClient } from "@azure/storage-queue";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type RunningHost, startHost } from "../../../local/functions-host/host.ts";
import { openQueues } from "../../support/stack.ts";
import { fixture, keptLog, startAndStop, startWorker, tempDir, until } from "./support.ts";

const MAX_DEQUEUE_COUNT = 5;
const LEASE_SECONDS = 1;

interface SeenRun {
  readonly name: string;
  readonly message: unknown;
  readonly metadata: Record<string, unknown>;
}

const log = keptLog();
let connectionString: string;
let prefix: string;
let host: RunningHost;

const queue = (name: string) => new QueueClient(connectionString, `${prefix}-${name}`);
const encode = (text: string) => Buffer.from(text).toString("base64");
const send = (name: string, text: string) => queue(name).sendMessage(encode(text));
const runsOf = async (name: string, url = host.url): Promise<SeenRun[]> => {
  const { runs } = (await (await fetch(`${url}/api/runs`)).json()) as { runs: SeenRun[] };
  return runs.filter((run) => run.name === name);
};
const untilRuns = (name: string, count: number, url?: string) =>
  until(`${count} runs of ${name}`, async () => {
    const runs = await runsOf(name, url);
    return runs.length >= count && runs;
  });
/** Waits until messages lie in a queue that nobody reads, and returns their text. */
const untilTexts = (name: string, count: number) =>
  until(`${count} messages in ${name}`, async () => {
    const peeked = await queue(name)
      .peekMessages({ numberOfMessages: 32 })
      .catch(() => undefined);
    const texts = peeked?.peekedMessageItems.map(({ messageText }) => messageText) ?? [];
    return texts.length >= count && texts;
  });
const untilEmpty = (name: string) =>
  until(`${name} to be empty`, async () => {
    const { approximateMessagesCount } = await queue(name).getProperties();
    return approximateMessagesCount === 0;
  });

beforeAll(async () => {
  const queues = await openQueues();
  connectionString = queues.connectionString;
  prefix = queues.uniqueName("host");
  const names = ["copy", "received", "named", "fails", "fails-poison", "raw", "too-often"];
  const polled = [...names, "slow", "crowd"];
  await Promise.all(polled.map((name) => queue(name).create()));
  await send("too-often", "again");
  for (let i = 0; i < MAX_DEQUEUE_COUNT; i++) await receiveAndRelease("too-often");
  process.env["PREFIX"] = prefix;
  process.env["QueueStorage"] = connectionString;
  host = await startHost({
    dir: fixture("queue-app"),
    port: 0,
    maxPollingMs: 50,
    leaseSeconds: LEASE_SECONDS,
    stateFile: `${tempDir()}/timers.json`,
    logger: log.logger,
  });
});
afterAll(() => host.stop());

async function receiveAndRelease(name: string): Promise<void> {
  const { receivedMessageItems } = await queue(name).receiveMessages();
  for (const { messageId, popReceipt, messageText } of receivedMessageItems) {
    await queue(name).updateMessage(messageId, popReceipt, messageText, 0);
  }
}

test("a message runs its function as a value with its metadata, and is deleted", async () => {
  await send("received", '{"tenant":"acme","dequeueCount":99}');
  await send("received", "plain");
  await send("received", "42");
  const runs = await untilRuns("received", 3);
  const byMessage = (message: unknown) => runs.find((run) => run.message === message);
  expect(runs.find(({ message }) => typeof message === "object")).toMatchObject({
    message: { tenant: "acme" },
    metadata: { tenant: "acme", dequeueCount: 99 },
  });
  expect(byMessage("plain")?.metadata).toMatchObject({ queueTrigger: "plain", dequeueCount: 1 });
  expect(byMessage(42)).toBeDefined();
  await untilEmpty("received");
});

test("what a function returns goes to its output queue, which is created", async () => {
  await send("copy", '["a",{"b":1}]');
  const texts = await untilTexts("copies", 2);
  expect(texts.toSorted()).toEqual([encode("a"), encode('{\n  "b": 1\n}')].toSorted());
});

test("outputs are set by binding, or by their name in what is returned, and wake the listener", async () => {
  const before = (await runsOf("received")).length;
  await send("named", "set");
  await send("named", "return");
  const runs = await untilRuns("received", before + 3);
  const messages = runs.slice(before).map(({ message }) => JSON.stringify(message));
  expect(messages.toSorted()).toEqual(['"one"', '"returned"', '{"two":2}']);
});

test("a message that does not decode goes straight to poison with its text, without a run", async () => {
  await queue("raw").sendMessage("{not base64}");
  expect(await untilTexts("raw-poison", 1)).toEqual(["{not base64}"]);
  await untilEmpty("raw");
  expect(await runsOf("raw")).toEqual([]);
  expect(log.entries.some(({ message }) => /Message decoding has failed/.test(message))).toBe(true);
});

test("a message that was received too often goes to poison without a run", async () => {
  expect(await untilTexts("too-often-poison", 1)).toEqual([encode("again")]);
  await untilEmpty("too-often");
  expect(await runsOf("tooOften")).toEqual([]);
});

test("a missing trigger queue is polled and not created; it works as soon as it exists", async () => {
  expect(await queue("late").exists()).toBe(false);
  const warnings = log.entries.filter(
    ({ functionName, level }) => functionName === "late" && level === "warning",
  );
  expect(warnings.map(({ message }) => message)).toEqual([
    `Queue '${prefix}-late' does not exist. The host polls until it does; it creates no trigger queue.`,
  ]);
  await queue("late").create();
  await send("late", "at last");
  expect(await untilRuns("late", 1)).toMatchObject([{ message: "at last" }]);
});

test("no more than a batch and the threshold run at the same time", async () => {
  for (let i = 0; i < 8; i++) await send("crowd", String(i));
  await untilRuns("crowd", 8);
  const { peak } = (await (await fetch(`${host.url}/api/runs`)).json()) as { peak: number };
  expect(peak).toBeGreaterThan(1);
  expect(peak).toBeLessThanOrEqual(3);
});

test("a queue function is run by hand with a message that no queue holds", async () => {
  const before = (await runsOf("received")).length;
  await host.runFunction("received", { tenant: "by hand" });
  const runs = await untilRuns("received", before + 1);
  expect(runs.at(-1)).toMatchObject({
    message: { tenant: "by hand" },
    metadata: { dequeueCount: 0 },
  });
});

test.concurrent("after five failed attempts a message goes to the poison queue, which has none of its own", async () => {
  await send("fails", "work");
  const runs = await untilRuns("fails", MAX_DEQUEUE_COUNT);
  expect(runs.map(({ metadata }) => metadata["dequeueCount"])).toEqual([1, 2, 3, 4, 5]);
  const [poisoned] = await untilRuns("failsPoison", 1);
  expect(poisoned).toMatchObject({ message: "work", metadata: { dequeueCount: 1 } });
  await untilEmpty("fails");
  await untilRuns("failsPoison", 2); // comes back when its lease ends
  expect(await queue("fails-poison-poison").exists()).toBe(false);
});

test.concurrent("a message is not handed out again while its function runs longer than the lease", async () => {
  await send("slow", JSON.stringify({ ms: LEASE_SECONDS * 1000 + 700 }));
  const runs = await untilRuns("slow", 2);
  expect(runs.map(({ message }) => message)).toEqual([expect.anything(), "done"]);
  await untilEmpty("slow");
});

test.concurrent("a message whose worker is killed comes back to the next one and counts as an attempt", async () => {
  const args = ["--lease-seconds", "1", "--max-poll-ms", "50", "--no-timers"];
  const own = `${prefix}-kill`;
  const env = { PREFIX: own, QueueStorage: connectionString };
  const ownQueue = new QueueClient(connectionString, `${own}-slow`);
  await ownQueue.create();
  await ownQueue.sendMessage(encode('{"ms":60000}'));
  const first = await startWorker(fixture("queue-app"), args, env);
  await untilRuns("slow", 1, first.url);
  await first.kill();
  const second = await startWorker(fixture("queue-app"), args, env);
  const [run] = await untilRuns("slow", 1, second.url);
  expect(run?.metadata).toMatchObject({ dequeueCount: 2 });
  await second.kill();
});

test.concurrent("a host that polled queues and was stopped keeps no process alive", async () => {
  const env = { PREFIX: `${prefix}-end`, QueueStorage: connectionString };
  expect(await startAndStop(fixture("queue-app"), env)).toMatchObject({ code: 0, stderr: "" });
});

test("stop waits for the running function, and its message is deleted", async () => {
  const before = (await runsOf("slow")).length;
  await send("slow", '{"ms":400}');
  await untilRuns("slow", before + 1);
  const executed = () =>
    log.entries.filter(({ message }) => message.startsWith("Executed 'Functions.slow' (Succeeded"));
  const executedBefore = executed().length;
  await host.stop();
  expect(executed()).toHaveLength(executedBefore + 1);
  const { approximateMessagesCount } = await queue("slow").getProperties();
  expect(approximateMessagesCount).toBe(0);
  await expect(fetch(host.url)).rejects.toThrow();
});
