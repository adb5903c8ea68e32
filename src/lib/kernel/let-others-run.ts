import { setImmediate } from "node:timers/promises";

/** Lets everything else that is due in this process run, in the middle of long work of the processor. */
export const letOthersRun = (): Promise<void> => setImmediate();
