import { randomBytes, randomUUID } from "node:crypto";
import type { HttpRequestData, InputData, InvocationRequest, TypedData } from "./core-types.ts";
import type { HostedFunction } from "./hosted-function.ts";
import { isObject } from "./json-file.ts";

/** What a trigger hands to one run; a retry gets an invocation id of its own. */
export interface RunInput {
  readonly data: InputData;
  readonly triggerMetadata: Readonly<Record<string, InputData>>;
  readonly invocationId?: string;
  /** `traceparent` of the caller. */
  readonly traceParent?: string | undefined;
}

export const invocationRequest = (fn: HostedFunction, input: RunInput): InvocationRequest => ({
  invocationId: input.invocationId ?? randomUUID(),
  functionId: fn.registration.id,
  inputData: [{ name: fn.triggerName, data: input.data }],
  triggerMetadata: input.triggerMetadata,
  traceContext: {
    traceParent: childTrace(input.traceParent),
    traceState: "",
    attributes: { OperationName: fn.name },
  },
});

const TRACE_PARENT = /^(00-[0-9a-f]{32}-)[0-9a-f]{16}(-[0-9a-f]{2})$/;
const hex = (bytes: number): string => randomBytes(bytes).toString("hex");

/** A child span of a valid parent, else a new trace. */
function childTrace(parent: string | undefined): string {
  const [, start, end] = TRACE_PARENT.exec(parent ?? "") ?? [];
  return start === undefined ? `00-${hex(16)}-${hex(8)}-01` : `${start}${hex(8)}${end}`;
}

export interface HttpInput {
  readonly method: string;
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly params: Readonly<Record<string, string>>;
  readonly body?: Buffer | undefined;
  readonly invocationId: string;
}

/** Repeated query values are joined with commas, as headers are. */
export function httpInput(input: HttpInput): RunInput {
  const { method, url, headers, params, body } = input;
  const names = [...new Set(url.searchParams.keys())];
  const query = names.map((name) => [name, url.searchParams.getAll(name).join(",")]);
  const http: HttpRequestData = {
    method,
    url: url.href,
    nullableHeaders: nullable(headers),
    nullableQuery: nullable(Object.fromEntries(query)),
    nullableParams: nullable(params),
    headers: {},
    query: {},
    params: {},
    ...(body === undefined || body.length === 0 ? {} : { body: { bytes: body } }),
  };
  return { data: { http }, triggerMetadata: {}, ...origin(input) };
}

/** With streaming the request itself goes through the library's own server; this only announces it. */
export function streamInput(input: HttpInput): RunInput {
  const params = Object.entries(input.params).map(([name, string]) => [name, { string }]);
  const triggerMetadata = {
    Headers: { json: JSON.stringify(input.headers) },
    Query: { json: "{}" },
    ...Object.fromEntries(params),
  };
  return { data: { http: {} }, triggerMetadata, ...origin(input) };
}

const origin = ({ invocationId, headers }: HttpInput) => ({
  invocationId,
  traceParent: headers["traceparent"],
});

const nullable = (record: Readonly<Record<string, string>>) =>
  Object.fromEntries(Object.entries(record).map(([name, value]) => [name, { value }]));

/** What a timer function gets, with the names of .NET. */
export interface TimerInfo {
  readonly Schedule: { readonly AdjustForDST: boolean };
  /** Null when the host keeps no status of this timer. */
  readonly ScheduleStatus: ScheduleStatusText | null;
  readonly IsPastDue: boolean;
}

/** Instants as .NET writes them; `0001-01-01T00:00:00+00:00` = never. */
export interface ScheduleStatusText {
  readonly Last: string;
  readonly Next: string;
  readonly LastUpdated: string;
}

export const timerInput = (info: TimerInfo): RunInput => ({
  data: { json: JSON.stringify(info) },
  triggerMetadata: { TimerTrigger: { string: new Date().toString() } },
});

export interface QueueInput {
  readonly text: string;
  readonly id: string;
  readonly popReceipt: string;
  readonly dequeueCount: number;
  readonly insertedAt: Date;
  readonly expiresAt: Date;
  readonly nextVisibleAt: Date;
}

/**
 * Next to the message itself a function gets its metadata, and every top-level property of a JSON message: such a
 * property replaces metadata of the same name, so a sender can forge all of it, here as in Azure.
 */
export function queueInput(message: QueueInput): RunInput {
  const metadata: Record<string, InputData> = {
    QueueTrigger: { string: message.text },
    DequeueCount: { json: String(message.dequeueCount) },
    ExpirationTime: dateData(message.expiresAt),
    Id: { string: message.id },
    InsertionTime: dateData(message.insertedAt),
    NextVisibleTime: dateData(message.nextVisibleAt),
    PopReceipt: { string: message.popReceipt },
  };
  for (const [name, value] of Object.entries(parseObject(message.text))) {
    const data = promoted(value);
    if (data !== undefined) metadata[sameName(metadata, name)] = data;
  }
  return { data: { string: message.text }, triggerMetadata: metadata };
}

const dateData = (date: Date): InputData => ({ json: JSON.stringify(dotNetDate(date)) });

export const dotNetDate = (date: Date): string => date.toISOString().replace("Z", "+00:00");

const sameName = (metadata: object, name: string): string =>
  Object.keys(metadata).find((it) => it.toLowerCase() === name.toLowerCase()) ?? name;

function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : {};
  } catch {
    return {};
  }
}

function promoted(value: unknown): InputData | undefined {
  if (value === null || Array.isArray(value)) return undefined;
  if (typeof value === "object") return { json: JSON.stringify(value) };
  if (typeof value === "boolean") return { string: value ? "True" : "False" }; // as .NET spells them
  return { string: String(value) };
}

export function toValue(data: TypedData | null | undefined): unknown {
  if (data === null || data === undefined) return undefined;
  if (data.json !== undefined) return JSON.parse(data.json);
  if (data.bytes !== undefined) return Buffer.from(data.bytes);
  return data.string ?? data.int ?? data.double;
}

/** The messages of one queue output: an array, or text that is a JSON array, becomes one message per element. */
export function queueMessages(output: unknown): Buffer[] {
  if (output === undefined || output === null) return [];
  const value = typeof output === "string" ? jsonOrText(output) : output;
  return (Array.isArray(value) ? value : [value]).map(messageBody);
}

function jsonOrText(text: string): unknown {
  if (!/^\s*[[{]/.test(text)) return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** Objects become indented JSON, as in Azure. */
function messageBody(value: unknown): Buffer {
  if (Buffer.isBuffer(value)) return value;
  return Buffer.from(typeof value === "string" ? value : JSON.stringify(value, null, 2));
}
