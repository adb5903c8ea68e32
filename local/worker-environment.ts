import { createHash } from "node:crypto";
import type { Backends } from "./backends/stack.ts";

/** The same on every machine, so that commands can be copied from the docs. Of no use anywhere but on 127.0.0.1. */
export const DEVELOPMENT_KEY = "wsk_local_development_only";

/**
 * The environment of the service on this machine. The person's own settings hold, except those that say where the
 * backends are: nothing here may reach a hosted Redis.
 */
export function workerEnvironment(
  backends: Pick<Backends, "settings">,
  env: NodeJS.ProcessEnv = process.env,
): NodeJS.ProcessEnv {
  const { REDIS_URL: _, ...own } = env;
  return {
    ...own,
    TZ: "UTC",
    ENVIRONMENT: "local",
    API_KEYS: DEVELOPMENT_API_KEYS,
    ...backends.settings,
  };
}

/** The setting that knows it. */
const DEVELOPMENT_API_KEYS = `local-development:admin:sha256:${createHash("sha256")
  .update(DEVELOPMENT_KEY)
  .digest("hex")}`;
