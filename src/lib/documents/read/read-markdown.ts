import type { ReadFacts, ReadTask } from "./reader.ts";
export const readMarkdown = (_task: ReadTask): ReadFacts => {
  throw new Error("later");
};
