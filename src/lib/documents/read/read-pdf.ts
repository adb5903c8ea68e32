import type { ReadFacts, ReadTask } from "./reader.ts";
export const readPdf = (_task: ReadTask): ReadFacts => {
  throw new Error("later");
};
