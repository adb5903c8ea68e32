import { Module, registerHooks } from "node:module";
import { fileURLToPath } from "node:url";
import type { InvocationContext } from "@azure/functions";
import type {
  FunctionCallback,
  FunctionMetadata,
  LogCategory,
  LogLevel,
  ProgrammingModel,
} from "./core-types.ts";
import { createHooks, type HookCallback, type Hooks } from "./hooks.ts";
import type { HostLog } from "./host-log.ts";

const CORE_NAME = "@azure/functions-core";
const CORE_KEY = Symbol.for("worker-service.azure-functions-core");
const SHIM = new URL("./functions-core-shim.cjs", import.meta.url);

/** Releases whose behaviour this host follows; the app sees them. */
export const HOST_VERSION = "4.1052.200";
const WORKER_VERSION = "3.14.1";

export interface Registration {
  readonly id: string;
  readonly metadata: FunctionMetadata;
  readonly callback: FunctionCallback;
}

/** Who logs; nothing for what the library says outside of an invocation. */
export interface LoggingInvocation {
  readonly functionName: string;
  readonly invocationId: string;
  readonly context?: InvocationContext | undefined;
}

/** What the app registered through the library. */
export interface Core {
  readonly hooks: Hooks;
  /** Shared by the invocation hooks of the process. */
  readonly appHookData: Record<string, unknown>;
  model(): ProgrammingModel | undefined;
  registrations(): readonly Registration[];
  /** From here on a registration throws, as in the worker after the host has read the functions. */
  lock(): void;
  log(level: LogLevel, category: LogCategory, message: string, from?: LoggingInvocation): void;
}

class AzFuncSystemError extends Error {
  readonly isAzureFunctionsSystemError = true;
}

/**
 * Answers `require("@azure/functions-core")` in this process. The library asks once and keeps the answer: one app per
 * process.
 *
 * @throws Error when the process has such a module already.
 */
export function installCoreModule(log: HostLog): Core {
  const globals = globalThis as Record<symbol, unknown>;
  if (globals[CORE_KEY] !== undefined) {
    throw new Error("This process has a Functions host already; start the second in another one.");
  }
  const { core, api } = createCore(log);
  globals[CORE_KEY] = api;
  resolveCoreModule();
  return core;
}

interface Registry {
  register(metadata: FunctionMetadata, callback: FunctionCallback): Disposable;
  all(): readonly Registration[];
  lock(): void;
}

function createRegistry(): Registry {
  const registered = new Map<string, Registration>();
  let isLocked = false;
  const refuseWhenLocked = (what: string) => {
    if (isLocked) throw new AzFuncSystemError(`A function can only be ${what} during app startup.`);
  };
  return {
    register: (metadata, callback) => {
      refuseWhenLocked("registered");
      const id = metadata.name;
      if (registered.has(id)) {
        throw new AzFuncSystemError(`A function with id "${id}" has already been registered.`);
      }
      registered.set(id, { id, metadata, callback });
      return new Disposable(() => {
        refuseWhenLocked("disposed");
        registered.delete(id);
      });
    },
    all: () => [...registered.values()],
    lock: () => {
      isLocked = true;
    },
  };
}

function createCore(log: HostLog): { core: Core; api: object } {
  const hooks = createHooks();
  const registry = createRegistry();
  const appHookData: Record<string, unknown> = {};
  let model: ProgrammingModel | undefined;
  const core: Core = {
    hooks,
    appHookData,
    model: () => model,
    registrations: registry.all,
    lock: registry.lock,
    log: (level, category, message, from) => {
      const entry = { level, category, message, invocationContext: from?.context, hookData: {} };
      const hooked = { ...entry, appHookData };
      hooks.runLog(hooked); // may change level and message
      log(hooked.level, hooked.message, logSource(category, from));
    },
  };
  const api = {
    version: WORKER_VERSION,
    get hostVersion() {
      return HOST_VERSION;
    },
    setProgrammingModel: (given: ProgrammingModel) => {
      model = given;
    },
    getProgrammingModel: () => model,
    registerHook: (name: string, callback: HookCallback) =>
      new Disposable(hooks.add(name, callback)),
    registerFunction: registry.register,
    log: core.log,
    Disposable,
  };
  return { core, api };
}

function logSource(category: LogCategory, from: LoggingInvocation | undefined) {
  if (from === undefined) return { category: category === "user" ? "Worker.User" : "Worker" };
  const { functionName, invocationId } = from;
  const suffix = category === "user" ? ".User" : "";
  return { category: `Function.${functionName}${suffix}`, functionName, invocationId };
}

class Disposable {
  #dispose: (() => void) | undefined;

  constructor(dispose: () => void) {
    this.#dispose = dispose;
  }

  static from(...items: readonly { dispose(): void }[]): Disposable {
    return new Disposable(() => {
      for (const item of items) item.dispose();
    });
  }

  dispose(): void {
    this.#dispose?.();
    this.#dispose = undefined;
  }
}

type ResolveFilename = (request: string, ...rest: readonly unknown[]) => string;

/**
 * Leads the bare name to a file instead of patching `require` as the worker does: that also reaches CommonJS which
 * comes through an ESM loader hook. Only `registerHooks` is public; Node's CommonJS loader asks `_resolveFilename`.
 */
function resolveCoreModule(): void {
  const loader = Module as unknown as { _resolveFilename: ResolveFilename };
  const original = loader._resolveFilename;
  const shimFile = fileURLToPath(SHIM);
  loader._resolveFilename = function resolveFilename(this: unknown, request, ...rest) {
    return request === CORE_NAME ? shimFile : original.call(this, request, ...rest);
  };
  registerHooks({
    resolve: (specifier, context, next) =>
      specifier === CORE_NAME
        ? { url: SHIM.href, format: "commonjs", shortCircuit: true }
        : next(specifier, context),
  });
}
