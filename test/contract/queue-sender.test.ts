import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { inspect } from "node:util";
import { type QueueClient, QueueServiceClient } from "@azure/storage-queue";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { createQueueSender } from "../../src/lib/runtime/queue-sender.storage.ts";
import { openQueues, type TestQueues } from "../support/stack.ts";

const signal = () => AbortSignal.timeout(20_000);
const failure = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => Promise.reject(new Error("succeeded")),
    (error: unknown) => error,
  );
const unavailable = { kind: "transient", code: "queue_unavailable" };
const refused = { kind: "permanent", code: "queue_refused" };
const expectNoSecrets = (value: unknown) =>
  expect(inspect(value, { depth: 10, showHidden: true })).not.toContain("secret-");

describe("the queue sender", () => {
  let queues: TestQueues;
  let service: QueueServiceClient;
  const created: QueueClient[] = [];

  beforeAll(async () => {
    queues = await openQueues();
    service = QueueServiceClient.fromConnectionString(queues.connectionString);
  });
  afterAll(() => Promise.all(created.map((queue) => queue.delete())));

  const openQueue = async () => {
    const queue = service.getQueueClient(queues.uniqueName("sender"));
    await queue.create();
    created.push(queue);
    return queue;
  };
  const open = () => createQueueSender({ connectionString: queues.connectionString });
  const decode = (text: string): unknown => JSON.parse(Buffer.from(text, "base64").toString());
  /** What a reader of the queue sees now, as text. */
  const receive = async (queue: QueueClient) => {
    const { receivedMessageItems } = await queue.receiveMessages({ numberOfMessages: 32 });
    return receivedMessageItems;
  };

  test("a message arrives as JSON in base64, which is how the host reads it", async () => {
    const queue = await openQueue();
    const message = { v: 1, id: "7", text: "ñandú 🧪", none: null };
    await open().send(queue.name, message, {}, signal());
    const [received] = await receive(queue);
    expect(decode(received?.messageText ?? "")).toEqual(message);
  });

  test("a message does not expire by itself", async () => {
    const queue = await openQueue();
    await open().send(queue.name, { id: 1 }, {}, signal());
    const [received] = await receive(queue);
    expect(received?.expiresOn.getFullYear()).toBe(9999);
  });

  test("a delayed message is there and cannot be seen yet", async () => {
    const queue = await openQueue();
    await open().send(queue.name, { id: 1 }, { delaySeconds: 3600.2 }, signal());
    expect(await receive(queue)).toEqual([]);
    expect((await queue.getProperties()).approximateMessagesCount).toBe(1);
  });

  test("a delay that a queue cannot keep is a bug", async () => {
    const sender = open();
    for (const delaySeconds of [-1, 604_801, Number.NaN]) {
      const error = await failure(sender.send("any", {}, { delaySeconds }, signal()));
      expect(error).toMatchObject({ kind: "bug", code: "invariant_broken" });
    }
  });

  test("a message of exactly 48 KiB is sent, and one byte more is refused before anything is", async () => {
    const queue = await openQueue();
    const frame = JSON.stringify({ text: "" }).length;
    const text = "x".repeat(48 * 1024 - frame);
    await open().send(queue.name, { text }, {}, signal());
    const error = await failure(open().send(queue.name, { text: `${text}x` }, {}, signal()));
    const details = { code: "MESSAGE_TOO_LARGE", bytes: 49_153, bytesMax: 49_152 };
    expect(error).toMatchObject({ ...refused, details });
    expect((await queue.getProperties()).approximateMessagesCount).toBe(1);
  });

  test("many messages all arrive once", async () => {
    const queue = await openQueue();
    const messages = Array.from({ length: 100 }, (_, n) => ({ n }));
    await open().sendAll(queue.name, messages, signal());
    const seen: unknown[] = [];
    for (let page = 0; page < 4; page++) {
      seen.push(...(await receive(queue)).map(({ messageText }) => decode(messageText)));
    }
    const numbers = seen.map((message) => (message as { n: number }).n).sort((a, b) => a - b);
    expect(numbers).toEqual(messages.map(({ n }) => n));
  });

  test("when one of many cannot be sent the others are, and the error counts both", async () => {
    const queue = await openQueue();
    const tooLarge = { text: "x".repeat(50_000) };
    const work = open().sendAll(queue.name, [{ n: 1 }, tooLarge, { n: 2 }, { n: 3 }], signal());
    expect(await failure(work)).toMatchObject({ ...refused, details: { sent: 3, failed: 1 } });
    expect((await queue.getProperties()).approximateMessagesCount).toBe(3);
  });

  test("nothing to send is nothing to do", async () => {
    await open().sendAll("no-such-queue", [], signal());
  });

  test("a queue that does not exist is refused and not created", async () => {
    const name = queues.uniqueName("missing");
    const error = await failure(open().send(name, { id: "secret-id" }, {}, signal()));
    expect(error).toMatchObject({
      ...refused,
      details: { queue: name, status: 404, code: "QueueNotFound" },
    });
    expectNoSecrets(error);
    expect(await service.getQueueClient(name).exists()).toBe(false);
  });

  test("a wrong key is refused, and neither key nor message is in the error", async () => {
    const queue = await openQueue();
    const wrongKey = Buffer.from("secret-key").toString("base64");
    const connectionString = queues.connectionString.replace(
      /AccountKey=[^;]+/,
      `AccountKey=${wrongKey}`,
    );
    const sender = createQueueSender({ connectionString });
    const error = await failure(sender.send(queue.name, { id: "secret-id" }, {}, signal()));
    expect(error).toMatchObject({ ...refused, details: { status: 403 } });
    expectNoSecrets(error);
    expect(inspect(error, { depth: 10, showHidden: true })).not.toContain(wrongKey);
  });

  test("nothing is sent under a signal that is aborted already", async () => {
    const queue = await openQueue();
    const work = open().send(queue.name, { id: 1 }, {}, AbortSignal.abort());
    expect(await failure(work)).toMatchObject({ kind: "transient", code: "deadline_exceeded" });
    expect((await queue.getProperties()).approximateMessagesCount).toBe(0);
  });

  test("a connection string that cannot be read is a fault of the configuration, and is not quoted", async () => {
    const sender = createQueueSender({ connectionString: "secret-nonsense" });
    const error = await failure(sender.send("any", {}, {}, signal()));
    expect(error).toMatchObject({ kind: "permanent", code: "config_invalid" });
    expectNoSecrets(error);
  });
});

/** What the hosted service does and the embedded one does not. */
describe("the queue sender when the service is in trouble", () => {
  const servers: Server[] = [];
  afterEach(() => {
    for (const server of servers.splice(0)) {
      server.close();
      server.closeAllConnections();
    }
  });

  async function openService(listener: RequestListener, timeoutMs?: number) {
    const server = createServer(listener);
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    return createQueueSender({ connectionString: connectionTo(port), timeoutMs });
  }
  const connectionTo = (port: number) =>
    `DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;QueueEndpoint=http://127.0.0.1:${port}/a`;

  test("a busy service is asked again, a bounded number of times, and its wait is handed on", async () => {
    let calls = 0;
    const sender = await openService((_, response) => {
      calls++;
      response.writeHead(503, { "retry-after": "7", "x-ms-error-code": "ServerBusy" }).end();
    });
    const error = await failure(sender.send("q", { id: "secret-id" }, {}, signal()));
    const details = { queue: "q", status: 503, code: "ServerBusy", retryAfterMs: 7000 };
    expect(error).toMatchObject({ ...unavailable, details });
    expect(calls).toBe(3);
    expectNoSecrets(error);
  });

  test("a service that does not answer ends the call by the sender's own limit", async () => {
    const sender = await openService(() => {}, 100);
    const startedAt = performance.now();
    const error = await failure(sender.send("q", {}, {}, signal()));
    expect(error).toMatchObject({ ...unavailable, details: { code: "TIMEOUT" } });
    expect(performance.now() - startedAt).toBeLessThan(2000);
  });

  test("a service that does not answer ends the call by the caller's deadline", async () => {
    const sender = await openService(() => {});
    const work = sender.send("q", {}, {}, AbortSignal.timeout(50));
    expect(await failure(work)).toMatchObject({ kind: "transient", code: "deadline_exceeded" });
  });

  test("a few messages are on their way at the same time, never all", async () => {
    let now = 0;
    let most = 0;
    const sender = await openService((_, response) => {
      most = Math.max(most, ++now);
      setTimeout(() => {
        now--;
        response.writeHead(400).end();
      }, 5);
    });
    const messages = Array.from({ length: 100 }, (_, n) => ({ n }));
    const error = await failure(sender.sendAll("q", messages, signal()));
    expect(error).toMatchObject({ ...refused, details: { sent: 0, failed: 100 } });
    expect(most).toBeGreaterThan(4);
    expect(most).toBeLessThanOrEqual(16);
  });

  test("one failure that may pass makes the whole batch worth another try", async () => {
    let calls = 0;
    const sender = await openService((_, response) => {
      calls++;
      response.writeHead(calls === 1 ? 409 : 429).end();
    });
    const error = await failure(sender.sendAll("q", [{ n: 1 }, { n: 2 }], signal()));
    expect(error).toMatchObject({ ...unavailable, details: { sent: 0, failed: 2 } });
  });

  test("a service that is not there fails as transient", async () => {
    const sender = await openService(() => {});
    for (const server of servers.splice(0)) server.close();
    expect(await failure(sender.send("q", {}, {}, signal()))).toMatchObject(unavailable);
  });
});
