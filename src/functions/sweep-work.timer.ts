import { app } from "@azure/functions";
import { sweepWork } from "../lib/queue/sweep-work.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { services } from "../services.ts";
import { WORK } from "../work.ts";

/** Ten seconds past every minute: not at the second at which every other timer starts. */
const EVERY_MINUTE = "10 * * * * *";

/** Keeps work items going whose message or worker was lost. Safe to run twice. */
app.timer("sweepWork", {
  schedule: EVERY_MINUTE,
  handler: async (_timer, context) => {
    await runTrigger(context, (run) => sweepWork(services(), WORK, run), { isRoutine });
  },
});

/** Nothing to do, as nearly always. */
const isRoutine = (notes: Readonly<Record<string, unknown>>): boolean =>
  Object.values(notes).every((count) => count === 0);
