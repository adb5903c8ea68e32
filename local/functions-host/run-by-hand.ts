import { randomUUID } from "node:crypto";
import type { HostedFunction } from "./hosted-function.ts";
import { httpInput, queueInput, type RunInput, type TimerInfo, timerInput } from "./rpc-data.ts";

const MESSAGE_LIFETIME_MS = 7 * 86_400_000;

/** What a function gets when a person runs it: a queue message, the body of a POST, or the timer as it stands. */
export function handInput(
  fn: HostedFunction,
  input: unknown,
  { url, timerInfo }: { readonly url: string; readonly timerInfo: TimerInfo | undefined },
): RunInput {
  const text = typeof input === "string" ? input : JSON.stringify(input ?? "");
  switch (fn.trigger.kind) {
    case "timer":
      return timerInput(timerInfo ?? NO_TIMER);
    case "queue":
      return queueInput(message(text));
    case "http":
      return httpInput({
        method: "POST",
        url: new URL(`${url}/${fn.trigger.route}`),
        headers: { "content-type": "application/json" },
        params: {},
        body: Buffer.from(text),
        invocationId: randomUUID(),
      });
  }
}

const NO_TIMER: TimerInfo = {
  Schedule: { AdjustForDST: true },
  ScheduleStatus: null,
  IsPastDue: false,
};

const message = (text: string) => ({
  text,
  id: randomUUID(),
  popReceipt: "",
  dequeueCount: 0,
  insertedAt: new Date(),
  expiresAt: new Date(Date.now() + MESSAGE_LIFETIME_MS),
  nextVisibleAt: new Date(),
});
