import type { ReadFacts, ReadTask } from "./reader.ts";
export const readMsg = (_task: ReadTask): ReadFacts => {
  throw new Error("later");
};
