import { createHash } from "node:crypto";
import { limitCalls } from "../kernel/deadline.ts";
import { AppError, invariant, transient } from "../kernel/errors.ts";
import type {
  RedisCommand,
  RedisDriver,
  RedisReply,
  RedisScript,
  ScriptCall,
} from "../kernel/redis.ts";

/** What a driver must be able to do; everything else is the same for all of them. */
export interface RedisTransport {
  readonly kind: RedisDriver["kind"];
  /** One round trip: a reply or an error at each place. Rejects when no command got an answer. */
  send(commands: readonly RedisCommand[], signal: AbortSignal): Promise<readonly Answer[]>;
  /** The same between MULTI and EXEC. Rejects when the transaction was discarded. */
  sendAtomic(commands: readonly RedisCommand[], signal: AbortSignal): Promise<readonly Answer[]>;
  close(): Promise<void>;
}

export type Answer = RedisReply | AppError;

export interface DriverOptions {
  /** Longest time of one round trip. */
  readonly timeoutMs?: number | undefined;
  /** Goes before the text of every script; a script that brings its own `#!` line keeps it. */
  readonly scriptHeader?: string | undefined;
}

export const REDIS_TIMEOUT_MS = 5000;
/** Above this Redis is away or too slow, and waiting calls only cost memory. */
const CALLS_IN_FLIGHT_MAX = 5000;
const COMMANDS_PER_ROUND_TRIP = 500;
/** Upstash refuses requests of more than 1 MB on its smallest plan. */
const CHARACTERS_PER_ROUND_TRIP = 500_000;
const TRANSACTION_COMMANDS_MAX = 1000;

export function buildDriver(transport: RedisTransport, options: DriverOptions = {}): RedisDriver {
  const { timeoutMs = REDIS_TIMEOUT_MS, scriptHeader = "" } = options;
  const unavailable = (code: string) => transient("redis_unavailable", { code });
  const calls = limitCalls({ timeoutMs, inFlightMax: CALLS_IN_FLIGHT_MAX, unavailable });
  const textOf = scriptTexts(scriptHeader);

  const pipeline: RedisDriver["pipeline"] = async (commands, signal) => {
    for (const command of commands) assertShareable(command);
    const answers: Answer[] = [];
    for (const chunk of chunksOf(commands)) {
      try {
        answers.push(...(await calls.run(signal, (own) => transport.send(chunk, own))));
      } catch (error) {
        const rest = commands.length - answers.length;
        return [...answers, ...restFailed(error, rest, commands.length)];
      }
    }
    return answers;
  };

  const scripts: RedisDriver["scripts"] = async (scriptCalls, signal) => {
    const texts = scriptCalls.map(({ script }) => textOf(script));
    const shortForm = scriptCalls.map((call, i) => evaluation("EVALSHA", texts[i]?.sha1, call));
    const answers = [...(await pipeline(shortForm, signal))];
    const unknown = answers.flatMap((answer, i) => (isUnknownScript(answer) ? [i] : []));
    const longForm = unknown.map((i) => evaluation("EVAL", texts[i]?.source, scriptCalls[i]));
    if (longForm.length === 0) return answers;
    const again = await pipeline(longForm, signal).catch((error: unknown) =>
      restFailed(error, longForm.length, answers.length),
    );
    for (const [at, i] of unknown.entries()) answers[i] = again[at] ?? null;
    return answers;
  };

  return {
    kind: transport.kind,
    command: async (command, signal) => onlyReply(await pipeline([command], signal)),
    pipeline,
    transaction: async (commands, signal) => {
      if (commands.length === 0) return [];
      invariant(commands.length <= TRANSACTION_COMMANDS_MAX, "a transaction is bounded");
      for (const command of commands) assertShareable(command);
      const answers = await calls.run(signal, (own) => transport.sendAtomic(commands, own));
      return answers.map(replyOrThrow);
    },
    script: async (call, signal) => onlyReply(await scripts([call], signal)),
    scripts,
    close: async () => {
      calls.close();
      await transport.close();
    },
  };
}

/** Redis' replies are untrusted input: a boolean, an object or a rounded integer must not travel on. */
export function toReply(raw: unknown): RedisReply {
  if (raw === null || typeof raw === "string") return raw;
  if (Array.isArray(raw)) {
    for (const item of raw) toReply(item); // nothing is converted, and a page of a log is thousands of lists
    return raw;
  }
  invariant(
    typeof raw === "number",
    "a reply is text, an integer, nothing or a list",
    "redis_reply_unexpected",
  );
  invariant(Number.isSafeInteger(raw), "an integer reply is exact", "redis_reply_unexpected");
  return raw;
}

/** The same for one place of a pipeline, where the failure is a value. */
export function toAnswer(raw: unknown): Answer {
  try {
    return toReply(raw);
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
}

/** Once a part of the calls was answered, the failure of the others is a value at their places. */
function restFailed(error: unknown, rest: number, all: number): readonly AppError[] {
  if (rest === all || !(error instanceof AppError)) throw error;
  return Array<AppError>(rest).fill(error);
}

function onlyReply([answer]: readonly Answer[]): RedisReply {
  invariant(answer !== undefined, "one command has one answer", "redis_reply_unexpected");
  return replyOrThrow(answer);
}

function replyOrThrow(answer: Answer): RedisReply {
  if (answer instanceof AppError) throw answer;
  return answer;
}

const isUnknownScript = (answer: Answer): boolean =>
  answer instanceof AppError && answer.details["code"] === "NOSCRIPT";

function evaluation(
  name: string,
  script: string | undefined,
  call: ScriptCall | undefined,
): RedisCommand {
  invariant(script !== undefined && call !== undefined, "every call has its script");
  return [name, script, String(call.keys.length), ...call.keys, ...call.args];
}

/** The texts as they are sent. A header changes the text, and so the hash. */
function scriptTexts(
  header: string,
): (script: RedisScript) => Pick<RedisScript, "source" | "sha1"> {
  const known = new WeakMap<RedisScript, Pick<RedisScript, "source" | "sha1">>();
  return (script) => {
    if (header === "" || script.source.startsWith("#!")) return script;
    const text = known.get(script) ?? withHeader(header, script);
    known.set(script, text);
    return text;
  };
}

function withHeader(header: string, { source }: RedisScript) {
  const text = header + source;
  return { source: text, sha1: createHash("sha1").update(text).digest("hex") };
}

/** Bounded by number and by size; a command that is larger than the bound travels alone. */
function* chunksOf(commands: readonly RedisCommand[]): Generator<readonly RedisCommand[]> {
  let chunk: RedisCommand[] = [];
  let characters = 0;
  for (const command of commands) {
    const size = command.reduce((sum, part) => sum + part.length, 0);
    const isFull =
      chunk.length === COMMANDS_PER_ROUND_TRIP || characters + size > CHARACTERS_PER_ROUND_TRIP;
    if (isFull && chunk.length > 0) {
      yield chunk;
      chunk = [];
      characters = 0;
    }
    chunk.push(command);
    characters += size;
  }
  if (chunk.length > 0) yield chunk;
}

/** They change the state of a connection that others use too. */
const CHANGES_CONNECTION =
  /^(MULTI|EXEC|DISCARD|WATCH|UNWATCH|[PS]?(UN)?SUBSCRIBE|MONITOR|QUIT|RESET|SELECT|HELLO|AUTH|CLIENT|READONLY|READWRITE|SHUTDOWN)$/i;
/** They hold up everybody else on the connection, and Upstash refuses them. */
const BLOCKS = /^(B[LRZ]\w+|WAIT|WAITAOF)$/i;
const MAY_BLOCK = /^XREAD(GROUP)?$/i;

function assertShareable(command: RedisCommand): void {
  const [name] = command;
  const blocks =
    BLOCKS.test(name) || (MAY_BLOCK.test(name) && command.some((part) => /^block$/i.test(part)));
  invariant(!blocks, `${name} does not block a shared connection`);
  invariant(!CHANGES_CONNECTION.test(name), `${name} does not change a shared connection`);
}
