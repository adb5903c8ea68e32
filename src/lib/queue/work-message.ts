import { createHash } from "node:crypto";
import { z } from "zod";
import { PRIORITIES, type Priority, type WorkSpec } from "./work.ts";

/**
 * Our own message: which item to look at. Unknown fields are ignored, because old and new code run together during a
 * deployment.
 */
export const WorkMessageSchema = z.object({
  v: z.literal(1),
  item: z.uuid(),
  kind: z.string().max(40),
});
export type WorkMessage = z.infer<typeof WorkMessageSchema>;

export const workQueueOf = (queue: string, priority: Priority): string => `${queue}-${priority}`;

export const workQueuesOf = ({ queue }: Pick<WorkSpec, "queue">): string[] =>
  PRIORITIES.map((priority) => workQueueOf(queue, priority));

/** A message as it came out of a queue, and what the queue says about it. */
export interface Delivery {
  readonly raw: unknown;
  readonly queue: string;
  readonly priority: Priority;
  /** Of the queue; a message may claim another one, so it only tells messages apart. */
  readonly messageId: string;
  readonly insertedAt: string;
}

/** The same for every delivery of one message. */
export function sourceOf({ raw, queue, messageId, insertedAt }: Delivery): string {
  const facts = JSON.stringify([queue, messageId, insertedAt, raw ?? null]);
  return createHash("sha256").update(facts).digest("hex");
}

/** Enough to see who sends it. */
const EVIDENCE_CHARACTERS_MAX = 1000;

/** The start of a message that nobody understands. */
export function evidenceOf({ raw, queue }: Delivery): Readonly<Record<string, unknown>> {
  const text = typeof raw === "string" ? raw : JSON.stringify(raw ?? null);
  const clean = text.replaceAll("\0", "").toWellFormed();
  return {
    queue,
    message: clean.slice(0, EVIDENCE_CHARACTERS_MAX).toWellFormed(),
    characters: text.length,
  };
}

const capitalised = (word: string): string => `${word.charAt(0).toUpperCase()}${word.slice(1)}`;

/** Such as processDocumentUrgent. */
export const workFunctionOf = ({ kind }: Pick<WorkSpec, "kind">, priority: Priority): string =>
  `process${kind.split("_").map(capitalised).join("")}${capitalised(priority)}`;
