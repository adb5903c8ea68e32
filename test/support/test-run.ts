import { randomUUID } from "node:crypto";
import type { LogFields, Run } from "../../src/lib/kernel/run.ts";

export interface TestRun extends Run {
  readonly notes: Record<string, unknown>;
  readonly lines: { readonly level: string; readonly event: string; readonly fields: LogFields }[];
}

/** A run as a feature sees it, with what it noted and logged kept for assertions. */
export function testRun(signal: AbortSignal = new AbortController().signal): TestRun {
  const notes: Record<string, unknown> = {};
  const lines: TestRun["lines"] = [];
  const log =
    (level: string) =>
    (event: string, fields: LogFields = {}) =>
      void lines.push({ level, event, fields });
  return {
    name: "test",
    id: randomUUID(),
    signal,
    notes,
    lines,
    log: { info: log("info"), warn: log("warn"), error: log("error") },
    note: (fields) => void Object.assign(notes, fields),
  };
}
