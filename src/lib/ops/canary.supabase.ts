import { z } from "zod";
import { AppError } from "../kernel/errors.ts";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import type { CanaryArrivals } from "./canary.ts";
import type { CanaryLedger } from "./canary-flights.ts";

const Started = z.array(z.object({ id: z.uuid(), queue: z.string() }));
const absent = z
  .number()
  .nullable()
  .transform((value) => value ?? undefined);
const States = z.array(z.object({ queue: z.string(), sinceSeconds: absent, tookMs: absent }));

function parseReply<T extends z.ZodType>(schema: T, reply: unknown): z.output<T> {
  const parsed = schema.safeParse(reply);
  if (parsed.success) return parsed.data;
  const details = { what: "canary" };
  throw new AppError("bug", "database_reply_unexpected", { details, cause: parsed.error });
}

export const canaryArrivals = (rpc: Rpc): CanaryArrivals => ({
  arrive: async (id, signal) =>
    parseReply(z.boolean(), await rpc("canary_arrive", { p_id: id }, signal)),
});

export const canaryLedger = (rpc: Rpc): CanaryLedger => ({
  start: async (queues, { everySeconds, lostSeconds }, signal) => {
    const args = { p_queues: queues, p_every_seconds: everySeconds, p_lost_seconds: lostSeconds };
    return parseReply(Started, await rpc("canary_start", args, signal));
  },
  withdraw: async (ids, signal) => {
    await rpc("canary_withdraw", { p_ids: ids }, signal);
  },
  read: async (queues, signal) =>
    parseReply(States, await rpc("canary_read", { p_queues: queues }, signal)),
});
