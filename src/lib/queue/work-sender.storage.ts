import { toFailure } from "../kernel/errors.ts";
import type { Logger } from "../kernel/run.ts";
import type { QueueSender } from "../runtime/queue-sender.storage.ts";
import type { WorkSpec } from "./work.ts";
import { type WorkMessage, workQueueOf } from "./work-message.ts";
import type { Wakeup, WorkSender } from "./work-ports.ts";

const SENDS_AT_ONCE = 16;
/** The longest the service keeps a message invisible. */
const DELAY_MS_MAX = 7 * 86_400_000;

export function workSender(
  sender: QueueSender,
  specs: readonly WorkSpec[],
  log: Logger,
): WorkSender {
  const queues = new Map(specs.map(({ kind, queue }) => [kind, queue]));
  const sendOne = async ({ id, kind, priority, delayMs }: Wakeup, signal: AbortSignal) => {
    const queue = queues.get(kind);
    if (queue === undefined) return false;
    const message: WorkMessage = { v: 1, item: id, kind };
    const delaySeconds = Math.ceil(Math.min(delayMs, DELAY_MS_MAX) / 1000);
    try {
      await sender.send(workQueueOf(queue, priority), message, { delaySeconds }, signal);
      return true;
    } catch (error) {
      const { code, details } = toFailure(error);
      log.warn("work_message_not_sent", { itemId: id, kind, code, details });
      return false;
    }
  };
  return {
    send: async (wakeups, signal) => {
      const waiting = wakeups.values();
      let failed = 0;
      const work = async () => {
        for (const wakeup of waiting) if (!(await sendOne(wakeup, signal))) failed += 1;
      };
      const lanes = Math.min(SENDS_AT_ONCE, wakeups.length);
      await Promise.all(Array.from({ length: lanes }, work));
      return failed;
    },
  };
}
