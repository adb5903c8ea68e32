import type { ReadTask } from "./reader.ts";
export const recognisePdf = async (
  _task: ReadTask,
  _pages: readonly number[],
): Promise<Map<number, string>> => new Map();
