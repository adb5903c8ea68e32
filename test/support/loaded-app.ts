import type { HttpHandler } from "@azure/functions";
import { type Core, installCoreModule } from "../../local/functions-host/core-module.ts";

/** Port 1 refuses every connection at once: nothing of this answers. */
export const CLOSED_PORTS: Readonly<Record<string, string>> = {
  AzureWebJobsStorage:
    "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=eA==;QueueEndpoint=http://127.0.0.1:1/devstoreaccount1;",
  SUPABASE_URL: "http://127.0.0.1:1",
  SUPABASE_KEY: "a-service-role-key-of-some-length",
  REDIS_URL: "redis://127.0.0.1:1",
};

let core: Core | undefined;

/**
 * Loads the entry through the real library, once per test file, because the library keeps its core for the life of the
 * process. The settings stay in the environment of the process: services are built from them when a handler runs.
 */
export async function loadApp(env: Readonly<Record<string, string>>): Promise<Core> {
  if (core !== undefined) return core;
  Object.assign(process.env, env);
  core = installCoreModule(() => {});
  await import("../../src/main.ts");
  return core;
}

/** The handler of an HTTP function, as it was registered. */
export function httpHandlerOf(loaded: Core, name: string): HttpHandler {
  const found = loaded.registrations().find(({ id }) => id === name);
  if (found === undefined) throw new Error(`no function is called ${name}`);
  return found.callback as HttpHandler;
}
