import type { DequeuedMessageItem, QueueClient } from "@azure/storage-queue";
import type { QueueSettings } from "./host-json.ts";
import type { HostLog } from "./host-log.ts";
import { decodeMessage, encodeMessage } from "./message-encoding.ts";
import type { QueueInput } from "./rpc-data.ts";
import { sendCreating, statusOf } from "./storage-queues.ts";

export interface QueueMessageDeps {
  readonly functionName: string;
  readonly queue: QueueClient;
  /** Undefined: a poison queue has none of its own. */
  readonly poison: QueueClient | undefined;
  readonly settings: QueueSettings;
  readonly leaseSeconds: number;
  readonly invoke: (message: QueueInput) => Promise<unknown>;
  readonly log: HostLog;
}

/**
 * What becomes of one received message: a run, then deleted, visible again, or moved to the poison queue. A message
 * that nobody finishes comes back when its lease ends.
 */
export async function processMessage(
  deps: QueueMessageDeps,
  message: DequeuedMessageItem,
): Promise<void> {
  const { messageEncoding, maxDequeueCount } = deps.settings;
  const text = decodeMessage(message.messageText, messageEncoding);
  if (text === undefined) return refuseUndecodable(deps, message);
  const lease = holdLease(message);
  // seen too often without a failure here: whoever held it before died
  if (message.dequeueCount > maxDequeueCount) return moveToPoison(deps, lease, text);
  const isDone = await run(deps, lease, text);
  if (isDone) return remove(deps, lease);
  if (deps.poison === undefined) return; // stays invisible for its lease, or it would fail at once for ever
  if (message.dequeueCount >= maxDequeueCount) return moveToPoison(deps, lease, text);
  return release(deps, lease);
}

/** A received message, and what owns it: every renewal replaces the receipt. */
interface Lease {
  readonly message: DequeuedMessageItem;
  receipt: string;
  renewal: Promise<void>;
}

const holdLease = (message: DequeuedMessageItem): Lease => ({
  message,
  receipt: message.popReceipt,
  renewal: Promise.resolve(),
});

/** A lease is renewed when half of it is over. */
const RENEW_AFTER_MS_PER_SECOND = 500;

async function run(deps: QueueMessageDeps, lease: Lease, text: string): Promise<boolean> {
  const { message } = lease;
  const timer = setInterval(() => {
    lease.renewal = renew(deps, lease);
  }, deps.leaseSeconds * RENEW_AFTER_MS_PER_SECOND);
  try {
    await deps.invoke({
      text,
      id: message.messageId,
      popReceipt: message.popReceipt,
      dequeueCount: message.dequeueCount,
      insertedAt: message.insertedOn,
      expiresAt: message.expiresOn,
      nextVisibleAt: message.nextVisibleOn,
    });
    return true;
  } catch {
    return false; // logged by the executor
  } finally {
    clearInterval(timer);
    await lease.renewal; // with a receipt that is being replaced the message could not be deleted
  }
}

/** A failed renewal is not an error yet: the next one may work, or the run ends before. */
async function renew(deps: QueueMessageDeps, lease: Lease): Promise<void> {
  await update(deps, lease, deps.leaseSeconds).catch((error) => {
    deps.log("warning", `A lease was not renewed: ${String(error)}`, sourceOf(deps));
  });
}

async function update(deps: QueueMessageDeps, lease: Lease, seconds: number): Promise<void> {
  const { messageId, messageText } = lease.message;
  const { popReceipt } = await deps.queue.updateMessage(
    messageId,
    lease.receipt,
    messageText,
    seconds,
  );
  if (popReceipt !== undefined) lease.receipt = popReceipt;
}

/** Visible again after the time that host.json names. */
async function release(deps: QueueMessageDeps, lease: Lease): Promise<void> {
  const seconds = Math.round(deps.settings.visibilityTimeoutMs / 1000);
  await update(deps, lease, seconds).catch(unlessGone);
}

async function remove({ queue }: QueueMessageDeps, { message, receipt }: Lease): Promise<void> {
  await queue.deleteMessage(message.messageId, receipt).catch(unlessGone);
}

/** Straight to the poison queue with its text as it came, without a run. */
async function refuseUndecodable(
  deps: QueueMessageDeps,
  message: DequeuedMessageItem,
): Promise<void> {
  const { messageEncoding } = deps.settings;
  deps.log(
    "error",
    `Message decoding has failed! The message ${message.messageId} is not ${messageEncoding}; check messageEncoding in host.json.`,
    sourceOf(deps),
  );
  await moveRaw(deps, holdLease(message), message.messageText);
}

const moveToPoison = (deps: QueueMessageDeps, lease: Lease, text: string): Promise<void> =>
  moveRaw(deps, lease, encodeMessage(Buffer.from(text), deps.settings.messageEncoding));

/** First written there, then deleted here: a crash in between makes two of it, never none. */
async function moveRaw(deps: QueueMessageDeps, lease: Lease, rawText: string): Promise<void> {
  if (deps.poison === undefined) return;
  const { messageId, dequeueCount } = lease.message;
  deps.log(
    "warning",
    `Message ${messageId} goes to '${deps.poison.name}' after ${dequeueCount} attempt(s).`,
    sourceOf(deps),
  );
  await sendCreating(deps.poison, rawText);
  await remove(deps, lease);
}

const sourceOf = ({ functionName }: QueueMessageDeps) => ({ functionName });

/** Somebody else has the message now, or it is gone: nothing is left to do. */
function unlessGone(error: unknown): void {
  const status = statusOf(error);
  if (status !== 400 && status !== 404 && status !== 409) throw error;
}
