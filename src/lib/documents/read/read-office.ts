import type { ReadFacts, ReadTask } from "./reader.ts";
export const readWord = (_task: ReadTask): ReadFacts => {
  throw new Error("later");
};
export const readSlides = (_task: ReadTask): ReadFacts => {
  throw new Error("later");
};
export const readOpenText = (_task: ReadTask): ReadFacts => {
  throw new Error("later");
};
