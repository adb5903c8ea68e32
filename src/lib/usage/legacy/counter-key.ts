import { TOKEN_TYPES, type TokenType } from "../usage-record.ts";

/**
 * The cumulative counters of older producers, `{tenant}:counter:token_usage:type:{type}:model:{model}` with an optional
 * `:agent:{id}` and `:conv:{id}` at the end. Pure.
 */

/** `<prefix>*<marker>*`: the first star stands for the tenant, the second for the rest. */
export interface CounterPattern {
  readonly glob: string;
  readonly prefix: string;
  readonly marker: string;
}

export interface CounterKey {
  readonly key: string;
  readonly tenant: string;
  readonly type: TokenType;
  /** '' = unknown. */
  readonly model: string;
  readonly agent: string;
  readonly conversation: string;
}

/**
 * `beside`: a key with an agent or a conversation counts again what the key without them counts. `part`: each use is
 * counted under one key, whichever parts that has.
 */
export type CounterDetail = "beside" | "part";

const KEY_CHARACTERS_MAX = 500;
const ID_CHARACTERS_MAX = 200;
const PATTERN = /^([^*?[\]\\]*)\*([^*?[\]\\]+)\*$/;
/** Names of models may contain colons: all up to a trailing agent or conversation. */
const REST = /^(?:type:)?([a-z]+):model:(.+?)(?::agent:([^:]+))?(?::conv:([^:]+))?$/;
/** What producers write when they do not know the model. */
const UNKNOWN_MODEL = "unknown";
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this finds
const CONTROL = /[\u0000-\u001f\u007f]/;

/** Undefined when the text is not `<prefix>*<marker>*`. */
export function parseCounterPattern(text: string): CounterPattern | undefined {
  const [, prefix, marker] = PATTERN.exec(text) ?? [];
  if (prefix === undefined || marker === undefined) return undefined;
  return { glob: text, prefix, marker };
}

/** Undefined when a key is none of ours: another name, an unknown type, ids that cannot be kept. */
export function parseCounterKey(pattern: CounterPattern, key: string): CounterKey | undefined {
  const { prefix, marker } = pattern;
  const at = key.indexOf(marker, prefix.length + 1);
  if (at < 0 || !key.startsWith(prefix) || !isPlain(key, KEY_CHARACTERS_MAX)) return undefined;
  const tenant = key.slice(prefix.length, at);
  const [, type, model = "", agent = "", conversation = ""] =
    REST.exec(key.slice(at + marker.length)) ?? [];
  const knownType = TOKEN_TYPES.find((known) => known === type);
  const ids = [tenant, model, agent, conversation];
  if (knownType === undefined || !ids.every((id) => isPlain(id, ID_CHARACTERS_MAX)))
    return undefined;
  return {
    key,
    tenant,
    type: knownType,
    model: model === UNKNOWN_MODEL ? "" : model,
    agent,
    conversation,
  };
}

const isPlain = (text: string, max: number): boolean =>
  text.length <= max && !CONTROL.test(text) && text.isWellFormed();

/** Which counters are read, and how they add up. */
export interface CounterSource {
  readonly counterPattern: CounterPattern;
  readonly counterDetail: CounterDetail;
}

/**
 * The counters among some keys whose sum is what their tenants used. A scan repeats keys, and finds some that only look
 * like ours.
 */
export function parseCounterKeys(
  keys: readonly string[],
  { counterPattern, counterDetail }: CounterSource,
): CounterKey[] {
  return [...new Set(keys)].flatMap((key) => {
    const counter = parseCounterKey(counterPattern, key);
    return counter !== undefined && isSummed(counter, counterDetail) ? [counter] : [];
  });
}

const isSummed = (counter: CounterKey, detail: CounterDetail): boolean =>
  detail === "part" || (counter.agent === "" && counter.conversation === "");

/** The settings under which counters are read: under others, every counter is met for the first time. */
export const scopeOf = ({ counterPattern, counterDetail }: CounterSource): string =>
  `${counterPattern.glob} ${counterDetail}`;
