import type { ReadFacts, ReadTask } from "./reader.ts";
export const readXlsx = (_task: ReadTask): ReadFacts => {
  throw new Error("later");
};
