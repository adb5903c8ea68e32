import type { TestProject } from "vitest/node";
import { startTestBackends } from "./test-backends.ts";

declare module "vitest" {
  export interface ProvidedContext {
    /** Where the test files ask for a database or the queues; see `stack.ts`. */
    testBackendsUrl: string;
  }
}

/** One Postgres and one Azurite for the whole run; they start when the first test file asks for them. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const backends = await startTestBackends();
  project.provide("testBackendsUrl", backends.url);
  return backends.close;
}
