import type { InvocationResponse, TypedData } from "./core-types.ts";
import type { HostedFunction } from "./hosted-function.ts";
import { isObject } from "./json-file.ts";
import { queueMessages, toValue } from "./rpc-data.ts";

const RETURN = "$return";

export interface OutputMessage {
  readonly connection: string;
  readonly queueName: string;
  readonly body: Buffer;
}

/** What a finished run writes to queues, in the order of its bindings. */
export function planOutputs(fn: HostedFunction, response: InvocationResponse): OutputMessage[] {
  const values = outputValues(fn, response);
  return fn.queueOutputs.flatMap(({ bindingName, queueName, connection }) =>
    queueMessages(values.get(bindingName)).map((body) => ({ connection, queueName, body })),
  );
}

function outputValues(fn: HostedFunction, response: InvocationResponse): Map<string, unknown> {
  const data = response.outputData ?? [];
  const values = new Map(data.map((output) => [output.name, toValue(output.data)]));
  const hasReturn = fn.bindings.some(({ name }) => name === RETURN);
  if (hasReturn) values.set(RETURN, toValue(response.returnValue));
  else for (const [name, value] of namedInReturn(response.returnValue)) values.set(name, value);
  return values;
}

/** Without a return binding, an object whose keys name output bindings writes those. */
function namedInReturn(returned: TypedData | null | undefined): [string, unknown][] {
  const value = toValue(returned);
  return isObject(value) && !Buffer.isBuffer(value) ? Object.entries(value) : [];
}
