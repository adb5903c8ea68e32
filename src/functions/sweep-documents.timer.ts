import { app } from "@azure/functions";
import { sweepDocuments } from "../lib/documents/sweep-documents.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { services } from "../services.ts";

/** At a second of its own. */
const EVERY_FIVE_MINUTES = "40 */5 * * * *";

/** Hands documents over to the queue that wait without a work item. Safe to run twice. */
app.timer("sweepDocuments", {
  schedule: EVERY_FIVE_MINUTES,
  handler: async (_timer, context) => {
    await runTrigger(context, (run) => sweepDocuments(services(), run), { isRoutine });
  },
});

/** Nothing to do, as nearly always. */
const isRoutine = (notes: Readonly<Record<string, unknown>>): boolean =>
  Object.values(notes).every((count) => count === 0);
