import { app, type InvocationContext } from "@azure/functions";
import { unlessCanary } from "../lib/ops/canary.ts";
import type { BoundWork } from "../lib/queue/bind-work.ts";
import { runWork } from "../lib/queue/run-work.ts";
import { settlePoisonedWork } from "../lib/queue/settle-poisoned-work.ts";
import { PRIORITIES, type Priority } from "../lib/queue/work.ts";
import { type Delivery, workFunctionOf, workQueueOf } from "../lib/queue/work-message.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { poisonQueueOf } from "../queues.ts";
import { type Services, services } from "../services.ts";
import { WORK } from "../work.ts";

/** One function for each kind and priority, and one for each poison queue. Idempotency: the claim of the item. */
for (const work of WORK) for (const priority of PRIORITIES) register(work, priority);

function register(work: BoundWork<Services>, priority: Priority): void {
  const queueName = workQueueOf(work.spec.queue, priority);
  const name = workFunctionOf(work.spec, priority);
  app.storageQueue(name, {
    connection: "AzureWebJobsStorage",
    queueName,
    handler: (raw, context) =>
      runTrigger(context, (run) =>
        unlessCanary(services(), raw, run, () =>
          runWork(services(), work, deliveryOf(raw, context, queueName, priority), run),
        ),
      ),
  });
  app.storageQueue(`${name}Poison`, {
    connection: "AzureWebJobsStorage",
    queueName: poisonQueueOf(queueName),
    handler: (raw, context) =>
      runTrigger(context, (run) =>
        unlessCanary(services(), raw, run, () =>
          settlePoisonedWork(services(), work, deliveryOf(raw, context, queueName, priority), run),
        ),
      ),
  });
}

function deliveryOf(
  raw: unknown,
  { triggerMetadata }: InvocationContext,
  queue: string,
  priority: Priority,
): Delivery {
  const messageId = String(triggerMetadata?.["id"] ?? "");
  const insertedAt = String(triggerMetadata?.["insertionTime"] ?? "");
  return { raw, queue, priority, messageId, insertedAt };
}
