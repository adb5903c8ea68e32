import type { z } from "zod";
import { permanent } from "../kernel/errors.ts";

/** A queue message as its schema knows it. Throws `message_invalid`, which names the fields and no value. */
export function parseMessage<T extends z.ZodType>(schema: T, raw: unknown): z.output<T> {
  const parsed = schema.safeParse(raw);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map((issue) => ({
    field: issue.path.join(".") || "message",
    reason: issue.message,
  }));
  throw permanent("message_invalid", { faults });
}
