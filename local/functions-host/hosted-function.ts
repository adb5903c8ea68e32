import { parseNcrontab, type Schedule } from "../../src/lib/kernel/ncrontab.ts";
import { StartError } from "../backends/start-error.ts";
import type { Registration } from "./core-module.ts";
import type { RetryOptions } from "./core-types.ts";
import { type Environment, isDisabled, resolvePlaceholders } from "./settings.ts";

/** A binding as it is in force: named, and every `%NAME%` resolved. */
export interface Binding {
  readonly name: string;
  readonly type: string;
  readonly direction: string;
  readonly [option: string]: unknown;
}

export type AuthLevel = "anonymous" | "function" | "admin";

export type Trigger =
  | {
      readonly kind: "http";
      readonly route: string;
      readonly methods: readonly string[];
      readonly authLevel: AuthLevel;
    }
  | {
      readonly kind: "timer";
      readonly schedule: Schedule;
      readonly runOnStartup: boolean;
      readonly useMonitor: boolean;
    }
  | { readonly kind: "queue"; readonly queueName: string; readonly connection: string };

export interface QueueOutput {
  readonly bindingName: string;
  readonly queueName: string;
  readonly connection: string;
}

export interface HostedFunction<T extends Trigger = Trigger> {
  readonly name: string;
  readonly registration: Registration;
  readonly isDisabled: boolean;
  readonly bindings: readonly Binding[];
  /** Name of the trigger binding. */
  readonly triggerName: string;
  readonly trigger: T;
  readonly queueOutputs: readonly QueueOutput[];
  readonly retry: RetryOptions | undefined;
}

export type TriggerOf<K extends Trigger["kind"]> = Extract<Trigger, { kind: K }>;

/** Narrows a function by its trigger. */
export const isTriggeredBy =
  <K extends Trigger["kind"]>(kind: K) =>
  (fn: HostedFunction): fn is HostedFunction<TriggerOf<K>> =>
    fn.trigger.kind === kind;

/**
 * The functions in the order of the host: by name, ignoring case. That order is the precedence of their routes.
 *
 * @throws StartError for whatever this host cannot run, or Azure would refuse.
 */
export function hostFunctions(
  registrations: readonly Registration[],
  allowed: ReadonlySet<string> | undefined,
  env: Environment,
): HostedFunction[] {
  const wanted = registrations.filter(({ id }) => allowed?.has(id.toLowerCase()) ?? true);
  const functions = wanted.map((registration) => hostFunction(registration, env)).sort(byName);
  for (const [index, { name }] of functions.entries()) {
    if (functions[index + 1]?.name.toUpperCase() !== name.toUpperCase()) continue;
    throw new StartError(`Two functions are called "${name}"; the case of a name does not count.`);
  }
  return functions;
}

const sortKey = ({ name }: HostedFunction) => name.toUpperCase();
const byName = (a: HostedFunction, b: HostedFunction) => (sortKey(a) < sortKey(b) ? -1 : 1);

const FUNCTION_NAME = /^[a-z][a-z0-9_-]{0,127}$/i;

function hostFunction(registration: Registration, env: Environment): HostedFunction {
  const { name, bindings: raw, retryOptions } = registration.metadata;
  if (!FUNCTION_NAME.test(name)) {
    throw new StartError(
      `"${name}" is not a function name: a letter, then letters, digits, hyphens or underscores.`,
    );
  }
  const bindings = withContext(name, () =>
    Object.entries(raw).map(([key, binding]) => resolveBinding(key, binding, env)),
  );
  const trigger = bindings.find(({ type }) => /trigger$/i.test(type));
  if (trigger === undefined) throw new StartError(`Function "${name}" has no trigger.`);
  return {
    name,
    registration,
    isDisabled: isDisabled(name, env),
    bindings,
    triggerName: trigger.name,
    trigger: withContext(name, () => readTrigger(name, trigger)),
    queueOutputs: withContext(name, () => readOutputs(bindings, trigger)),
    retry: retryOptions,
  };
}

function withContext<T>(functionName: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    throw new StartError(`Function "${functionName}": ${text}`);
  }
}

function resolveBinding(name: string, binding: object, env: Environment): Binding {
  const resolved = resolvePlaceholders(binding, env) as Record<string, unknown>;
  return {
    ...resolved,
    name,
    type: String(resolved["type"]),
    direction: String(resolved["direction"] ?? "in"),
  };
}

function readTrigger(functionName: string, binding: Binding): Trigger {
  switch (binding.type.toLowerCase()) {
    case "httptrigger":
      return readHttp(functionName, binding);
    case "timertrigger":
      return readTimer(binding);
    case "queuetrigger":
      return { kind: "queue", ...readQueue(binding) };
    default:
      throw notSupported(binding);
  }
}

const notSupported = ({ type, direction }: Binding) =>
  new StartError(
    `this host does not know the binding "${type}" (${direction}); it has HTTP, timer and storage queue triggers and HTTP and storage queue outputs.`,
  );

function readHttp(functionName: string, binding: Binding): Trigger {
  const { route, methods, authLevel } = binding;
  const level = String(authLevel ?? "anonymous").toLowerCase();
  if (level !== "anonymous" && level !== "function" && level !== "admin") {
    throw new StartError(`authLevel "${level}" is not anonymous, function or admin.`);
  }
  return {
    kind: "http",
    route: trimSlashes(typeof route === "string" && route !== "" ? route : functionName),
    methods: Array.isArray(methods) ? methods.map((method) => String(method).toUpperCase()) : [],
    authLevel: level,
  };
}

const trimSlashes = (text: string): string => text.replace(/^\/+|\/+$/g, "");

function readTimer(binding: Binding): Trigger {
  return {
    kind: "timer",
    schedule: parseNcrontab(String(binding["schedule"] ?? "")),
    runOnStartup: binding["runOnStartup"] === true,
    useMonitor: binding["useMonitor"] !== false,
  };
}

function readOutputs(bindings: readonly Binding[], trigger: Binding): QueueOutput[] {
  return bindings.flatMap((binding) => {
    if (binding === trigger) return [];
    const type = binding.type.toLowerCase();
    if (binding.direction !== "out" || (type !== "http" && type !== "queue")) {
      throw notSupported(binding);
    }
    return type === "http" ? [] : [{ bindingName: binding.name, ...readQueue(binding) }];
  });
}

const QUEUE_NAME = /^(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/;

function readQueue(binding: Binding): { queueName: string; connection: string } {
  const queueName = String(binding["queueName"] ?? "").toLowerCase();
  if (!QUEUE_NAME.test(queueName)) {
    throw new StartError(
      `"${queueName}" is not a queue name: 3 to 63 letters, digits and single hyphens.`,
    );
  }
  const { connection } = binding;
  return {
    queueName,
    connection: typeof connection === "string" && connection !== "" ? connection : "Storage",
  };
}
