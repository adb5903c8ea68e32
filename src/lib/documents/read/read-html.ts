import type { ReadFacts, ReadTask } from "./reader.ts";
export const readHtml = (_task: ReadTask): ReadFacts => {
  throw new Error("later");
};
