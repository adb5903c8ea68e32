const HOOK_NAMES = ["appStart", "appTerminate", "preInvocation", "postInvocation", "log"] as const;
export type HookName = (typeof HOOK_NAMES)[number];
export type HookCallback = (context: object) => unknown;

export interface Hooks {
  /** @returns a function that removes the hook again. */
  add(name: string, callback: HookCallback): () => void;
  /** One after the other, in the order of registration; the first that throws ends it. */
  run(name: Exclude<HookName, "log">, context: object): Promise<void>;
  /** Log hooks are not awaited. What a log hook itself logs does not reach the log hooks again. */
  runLog(context: object): void;
}

/** The library tests for exactly this to explain that a hook is not known. */
class UnknownHookError extends RangeError {
  readonly isAzureFunctionsSystemError = true;
}

export function createHooks(): Hooks {
  const callbacks = new Map<string, HookCallback[]>(HOOK_NAMES.map((name) => [name, []]));
  const of = (name: HookName) => callbacks.get(name) ?? [];
  let isLogging = false;
  return {
    add: (name, callback) => {
      const list = callbacks.get(name);
      if (list === undefined) throw new UnknownHookError(`Unrecognized hook "${name}"`);
      list.push(callback);
      return () =>
        void callbacks.set(
          name,
          of(name as HookName).filter((it) => it !== callback),
        );
    },
    run: async (name, context) => {
      for (const callback of of(name)) await callback(context);
    },
    runLog: (context) => {
      if (isLogging) return;
      isLogging = true;
      try {
        for (const callback of of("log")) callback(context);
      } finally {
        isLogging = false;
      }
    },
  };
}
