import type { ReadFacts, ReadTask } from "./reader.ts";
export const readCsv = (_task: ReadTask): ReadFacts => {
  throw new Error("later");
};
