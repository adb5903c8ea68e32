import { createHash } from "node:crypto";
import { join, resolve } from "node:path";
import { consoleLogger } from "./console-log.ts";
import type { FunctionKeys } from "./function-keys.ts";
import { type HostJson, readHostJson } from "./host-json.ts";
import { createHostLog, type HostLogger } from "./host-log.ts";
import type { Binding, HostedFunction } from "./hosted-function.ts";
import { listen } from "./http-server.ts";
import { type HostParts, runApp } from "./run-app.ts";
import { applyLocalSettings, type LocalHostSettings } from "./settings.ts";
import { type App, startApp } from "./start-app.ts";

const DEFAULT_PORT = 7071;
const DEFAULT_ADDRESS = "127.0.0.1";
/** Messages are invisible for ten minutes while they are worked on, as in Azure. */
const LEASE_SECONDS = 600;
const STOP_WITHIN_MS = 10_000;

export interface HostOptions {
  /** Folder of the app: package.json, host.json, local.settings.json. */
  readonly dir: string;
  /** A source file to load instead of `main` of package.json. */
  readonly entry?: string | undefined;
  /** 0 = any free port. Default: `LocalHttpPort` of local.settings.json, else 7071. */
  readonly port?: number | undefined;
  readonly address?: string | undefined;
  /** Ask for function keys, as in Azure; off by default, as with `func start`. */
  readonly enableAuth?: boolean | undefined;
  readonly keys?: FunctionKeys | undefined;
  /** Allowed origins. Default: `CORS` of local.settings.json. */
  readonly cors?: readonly string[] | undefined;
  /** Longest pause between two polls of a queue; default: `maxPollingInterval` of host.json. */
  readonly maxPollingMs?: number | undefined;
  /** How long a message that is worked on stays invisible; renewed at half of it. Default 600. */
  readonly leaseSeconds?: number | undefined;
  /** Where timers remember when they ran; default `.local/timer-status.json` in `dir`. */
  readonly stateFile?: string | undefined;
  /** False: no queue is polled. Outputs are written all the same. */
  readonly queues?: boolean | undefined;
  /** False: no timer runs by itself. */
  readonly timers?: boolean | undefined;
  readonly logger?: HostLogger | undefined;
  /** The clock of the timers, in milliseconds. */
  readonly now?: (() => number) | undefined;
  /** How long `stop` waits for running handlers, and again for what comes after them. Default 10 s. */
  readonly stopWithinMs?: number | undefined;
}

export interface FunctionInfo {
  readonly name: string;
  /** As in Azure: `httpTrigger`, `timerTrigger`, `queueTrigger`. */
  readonly triggerType: string;
  /** With every `%NAME%` resolved. */
  readonly bindings: readonly Binding[];
  readonly isDisabled: boolean;
}

export interface RunningHost {
  readonly url: string;
  readonly port: number;
  /** In the order of the host, which is the precedence of their routes. */
  readonly functions: readonly FunctionInfo[];
  /** Runs a function by hand, like `POST /admin/functions/{name}`. Rejects with what it threw. */
  runFunction(name: string, input?: unknown): Promise<void>;
  /** Waits for running handlers, runs the appTerminate hooks, leaves nothing open. Safe to repeat. */
  stop(): Promise<void>;
}

/**
 * Starts a Functions app in this process, with the real `@azure/functions` library and the rules of the Azure host.
 * Settings go into `process.env`, as they do in Azure. One app per process.
 *
 * @throws StartError when the app would not start in Azure, would start without a function, or needs what this host
 * does not have. Nothing is left open then.
 */
export async function startHost(options: HostOptions): Promise<RunningHost> {
  const dir = resolve(options.dir);
  const log = createHostLog(options.logger ?? consoleLogger());
  const local = applyLocalSettings(dir, process.env);
  const hostJson = readHostJson(dir, process.env);
  const address = options.address ?? DEFAULT_ADDRESS;
  const listener = await listen(options.port ?? local.port ?? DEFAULT_PORT, address);
  const url = `http://${address}:${listener.port}`;
  process.env["WEBSITE_HOSTNAME"] ??= new URL(url).host;
  let app: App | undefined;
  try {
    app = await startApp({ dir, entry: options.entry }, hostJson, log);
    const parts = { app, listener, log, hostJson, url, ...partsOf(options, local, hostJson, dir) };
    const control = await runApp(parts);
    return { url, port: listener.port, functions: app.functions.map(describe), ...control };
  } catch (error) {
    app?.closeLibrary();
    await listener.close(0);
    throw error;
  }
}

type OptionParts = Omit<HostParts, "app" | "listener" | "log" | "hostJson" | "url">;

function partsOf(
  options: HostOptions,
  local: LocalHostSettings,
  hostJson: HostJson,
  dir: string,
): OptionParts {
  const localOrigins = local.cors?.split(",").map((origin) => origin.trim()) ?? [];
  const now = options.now ?? Date.now;
  return {
    hostId: createHash("sha1").update(dir).digest("hex").slice(0, 16),
    keys: options.enableAuth === true ? (options.keys ?? {}) : undefined,
    cors: {
      origins: options.cors ?? localOrigins,
      hasCredentials: options.cors === undefined && local.hasCorsCredentials,
    },
    hasQueues: options.queues ?? true,
    maxPollingMs: options.maxPollingMs ?? hostJson.queues.maxPollingIntervalMs,
    leaseSeconds: options.leaseSeconds ?? LEASE_SECONDS,
    hasTimers: options.timers ?? true,
    stateFile: resolve(options.stateFile ?? join(dir, ".local", "timer-status.json")),
    now: () => new Date(now()),
    stopWithinMs: options.stopWithinMs ?? STOP_WITHIN_MS,
  };
}

const describe = (fn: HostedFunction): FunctionInfo => ({
  name: fn.name,
  triggerType: `${fn.trigger.kind}Trigger`,
  bindings: fn.bindings,
  isDisabled: fn.isDisabled,
});
