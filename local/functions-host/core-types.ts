import type { InvocationContext } from "@azure/functions";

/**
 * What `@azure/functions` and its host say to each other. The package of that name exists only inside the Node worker
 * of Azure, and its types are not published on their own; these are the parts that this host uses.
 */
export type LogLevel = "trace" | "debug" | "information" | "warning" | "error" | "critical";
export type LogCategory = "user" | "system";

/** As registered; names of settings (`%NAME%`) are not resolved yet. */
export interface RawBinding {
  readonly type: string;
  readonly direction: "in" | "out" | "inout";
  readonly [option: string]: unknown;
}

/** Whole seconds: the library rounds what the app wrote. */
export interface RpcDuration {
  readonly seconds?: number | string;
  readonly nanos?: number;
}

export interface RetryOptions {
  /** -1 = no limit. */
  readonly maxRetryCount: number;
  readonly retryStrategy: "fixedDelay" | "exponentialBackoff";
  readonly delayInterval?: RpcDuration | null;
  readonly minimumInterval?: RpcDuration | null;
  readonly maximumInterval?: RpcDuration | null;
}

export interface FunctionMetadata {
  readonly name: string;
  readonly bindings: Readonly<Record<string, RawBinding>>;
  readonly retryOptions?: RetryOptions | undefined;
}

export type FunctionCallback = (...args: unknown[]) => unknown;

interface NullableString {
  readonly value: string;
}

export interface HttpRequestData {
  readonly method: string;
  readonly url: string;
  readonly nullableHeaders: Readonly<Record<string, NullableString>>;
  readonly nullableQuery: Readonly<Record<string, NullableString>>;
  readonly nullableParams: Readonly<Record<string, NullableString>>;
  readonly headers: Readonly<Record<string, string>>;
  readonly query: Readonly<Record<string, string>>;
  readonly params: Readonly<Record<string, string>>;
  readonly body?: { readonly bytes: Uint8Array };
}

interface Nullable<T> {
  readonly value: T;
}

export interface CookieData {
  readonly name: string;
  readonly value: string;
  readonly domain?: Nullable<string>;
  readonly path?: Nullable<string>;
  readonly expires?: { readonly value: { readonly seconds: number } };
  readonly secure?: Nullable<boolean>;
  readonly httpOnly?: Nullable<boolean>;
  readonly sameSite?: "none" | "lax" | "strict" | "explicitNone";
  readonly maxAge?: Nullable<number>;
}

export interface HttpResponseData {
  readonly statusCode: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly cookies: readonly CookieData[];
  readonly body?: TypedData | null;
}

/** What the host hands in: one member is set. */
export interface InputData {
  readonly string?: string;
  readonly json?: string;
  readonly http?: HttpRequestData | Readonly<Record<string, never>>;
}

/** What the library hands out: one member is set. */
export interface TypedData {
  readonly string?: string;
  readonly json?: string;
  readonly bytes?: Uint8Array;
  readonly int?: number;
  readonly double?: number;
  readonly http?: HttpResponseData;
}

export interface RetryContext {
  readonly retryCount: number;
  readonly maxRetryCount: number;
  readonly exception: {
    readonly message: string;
    readonly stackTrace: string;
    readonly source: string;
  };
}

export interface InvocationRequest {
  readonly invocationId: string;
  readonly functionId: string;
  readonly inputData: readonly { readonly name: string; readonly data: InputData }[];
  readonly triggerMetadata: Readonly<Record<string, InputData>>;
  readonly traceContext: {
    readonly traceParent: string;
    readonly traceState: string;
    readonly attributes: Readonly<Record<string, string>>;
  };
  readonly retryContext?: RetryContext;
}

export interface InvocationResponse {
  readonly returnValue?: TypedData | null;
  readonly outputData?: readonly { readonly name: string; readonly data: TypedData }[];
}

export type InvocationState = "preInvocationHooks" | "invocation" | "postInvocationHooks";

/** One invocation, as the library sees its host. */
export interface CoreInvocationContext {
  readonly invocationId: string;
  readonly request: InvocationRequest;
  readonly metadata: FunctionMetadata;
  state: InvocationState | undefined;
  log(level: LogLevel, category: LogCategory, message: string): void;
}

export interface InvocationModel {
  getArguments(): Promise<{ context: InvocationContext; inputs: unknown[] }>;
  invokeFunction(
    context: InvocationContext,
    inputs: unknown[],
    callback: FunctionCallback,
  ): Promise<unknown>;
  getResponse(context: InvocationContext, result: unknown): Promise<InvocationResponse>;
}

export interface Capabilities {
  /** Loopback server of the library, when the app streams HTTP. */
  HttpUri?: string;
  [name: string]: string | undefined;
}

export interface ProgrammingModel {
  readonly name: string;
  readonly version: string;
  getCapabilities(offered: Capabilities): Promise<Capabilities>;
  getInvocationModel(context: CoreInvocationContext): InvocationModel | Promise<InvocationModel>;
}
