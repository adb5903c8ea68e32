import type { InvocationContext } from "@azure/functions";
import type { Core, LoggingInvocation } from "./core-module.ts";
import type {
  CoreInvocationContext,
  FunctionCallback,
  InvocationModel,
  InvocationRequest,
  InvocationResponse,
  InvocationState,
} from "./core-types.ts";
import type { HostedFunction } from "./hosted-function.ts";

/**
 * One attempt of one function: arguments, hooks, handler, hooks, response.
 *
 * @throws what the handler, a hook or the conversion of the result threw.
 */
export async function invokeFunction(
  core: Core,
  fn: HostedFunction,
  request: InvocationRequest,
): Promise<InvocationResponse> {
  const model = core.model();
  if (model === undefined) throw new Error("The app set no programming model.");
  const attempt = createAttempt(core, fn, request);
  const invocation = await model.getInvocationModel(attempt.context);
  const { context, inputs } = await invocation.getArguments();
  attempt.start(context);
  const { callback } = fn.registration;
  const prepared = await runBefore(core, attempt, { inputs, functionCallback: callback });
  const outcome = await runHandler(attempt, invocation, prepared);
  const final = await runAfter(core, attempt, prepared.inputs, outcome);
  if (final.error !== null && final.error !== undefined) throw final.error;
  return invocation.getResponse(context, final.result);
}

interface Attempt {
  readonly context: CoreInvocationContext;
  start(context: InvocationContext): void;
  /** What every hook of this attempt sees. */
  hookContext<T extends object>(own: T): T;
  during<T>(state: InvocationState, work: () => Promise<T>): Promise<T>;
  invocationContext(): InvocationContext;
}

function createAttempt(core: Core, fn: HostedFunction, request: InvocationRequest): Attempt {
  const { invocationId } = request;
  let started: InvocationContext | undefined;
  const from = (): LoggingInvocation => ({ functionName: fn.name, invocationId, context: started });
  const context: CoreInvocationContext = {
    invocationId,
    request,
    metadata: fn.registration.metadata,
    state: undefined,
    log: (level, category, message) => core.log(level, category, message, from()),
  };
  const hookData = {};
  return {
    context,
    start: (given) => {
      started = given;
    },
    invocationContext: () => {
      if (started === undefined) throw new Error("The invocation has not started.");
      return started;
    },
    // the library's hook contexts read and write the object they are given
    hookContext: (own) =>
      Object.defineProperties(own, {
        hookData: { value: hookData, enumerable: true },
        appHookData: { value: core.appHookData, enumerable: true },
        invocationContext: { value: started, enumerable: true },
      }),
    during: async (state, work) => {
      context.state = state;
      try {
        return await work();
      } finally {
        context.state = undefined;
      }
    },
  };
}

interface Prepared {
  inputs: unknown[];
  functionCallback: FunctionCallback;
}

/** Hooks may replace the inputs and the handler. */
async function runBefore(core: Core, attempt: Attempt, given: Prepared): Promise<Prepared> {
  const context = attempt.hookContext(given);
  await attempt.during("preInvocationHooks", () => core.hooks.run("preInvocation", context));
  return context;
}

interface Outcome {
  result: unknown;
  error: unknown;
}

async function runHandler(
  attempt: Attempt,
  invocation: InvocationModel,
  { inputs, functionCallback }: Prepared,
): Promise<Outcome> {
  try {
    const result = await attempt.during("invocation", () =>
      invocation.invokeFunction(attempt.invocationContext(), inputs, functionCallback),
    );
    return { result, error: null };
  } catch (error) {
    return { result: null, error: error ?? new Error("The handler threw nothing.") };
  }
}

/** Hooks may replace the result and the error. */
async function runAfter(
  core: Core,
  attempt: Attempt,
  inputs: unknown[],
  { result, error }: Outcome,
): Promise<Outcome> {
  const context = attempt.hookContext({ inputs, result, error });
  await attempt.during("postInvocationHooks", () => core.hooks.run("postInvocation", context));
  return context;
}
