import type { ReadFacts, ReadTask } from "./reader.ts";
export const readEml = (_task: ReadTask): ReadFacts => {
  throw new Error("later");
};
