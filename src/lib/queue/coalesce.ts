import { untilAborted } from "../kernel/deadline.ts";
import { invariant, toFailure } from "../kernel/errors.ts";

type Send<In, Out> = (batch: readonly In[]) => Promise<readonly Out[]>;

interface Waiting<In, Out> {
  readonly one: In;
  readonly resolve: (out: Out) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Calls that come while another is under way travel together in the next one: a lone call waits for nobody, and many at
 * once share round trips. `send` answers in the order of its batch. When a batch is refused for good, each of it is sent
 * alone, so that one that cannot be served does not spoil the others. A caller that gives up does not stop the batch.
 */
export function coalesce<In, Out>(
  send: Send<In, Out>,
  batchMax: number,
): (one: In, signal: AbortSignal) => Promise<Out> {
  let waiting: Waiting<In, Out>[] = [];
  let isSending = false;

  const pump = async (): Promise<void> => {
    if (isSending) return;
    isSending = true;
    while (waiting.length > 0) {
      const batch = waiting.slice(0, batchMax);
      waiting = waiting.slice(batchMax);
      await sendBatch(send, batch);
    }
    isSending = false;
  };

  return (one, signal) => {
    const answer = new Promise<Out>((resolve, reject) => {
      waiting.push({ one, resolve, reject });
    });
    queueMicrotask(() => void pump());
    return untilAborted(answer, signal);
  };
}

/** Never throws: each caller hears of its own. */
async function sendBatch<In, Out>(
  send: Send<In, Out>,
  batch: readonly Waiting<In, Out>[],
): Promise<void> {
  try {
    const answers = await send(batch.map(({ one }) => one));
    invariant(answers.length === batch.length, "a batch has an answer for each");
    for (const [i, { resolve }] of batch.entries()) resolve(answers[i] as Out); // as many as asked
  } catch (error) {
    if (batch.length > 1 && toFailure(error).kind === "permanent") {
      for (const single of batch) await sendBatch(send, [single]);
      return;
    }
    for (const { reject } of batch) reject(error);
  }
}
