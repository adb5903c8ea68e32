import type { JSONWebKeySet } from "jose";
import type { Clock } from "../kernel/clock.ts";
import { withDeadline } from "../kernel/deadline.ts";
import { AppError, transient } from "../kernel/errors.ts";

/** How long keys are used before they are asked for again. Entra publishes a new key days before it signs with it. */
const FRESH_MS = 10 * 60_000;
/** How long known keys still serve while their address does not answer. */
const KNOWN_MAX_MS = 24 * 60 * 60_000;
/** A stranger who invents key ids makes us ask no more often than this. */
const COOLDOWN_MS = 30_000;
const FETCH_DEADLINE_MS = 3000;
/** Entra's own set has some 15 KiB. */
const BYTES_MAX = 256 * 1024;
const KEYS_MAX = 100;

export interface EntraKeysOptions {
  /** The tenant's JWKS address. */
  readonly url: string;
  readonly clock: Clock;
  readonly fetch?: typeof globalThis.fetch;
}

/** The signing keys of a tenant, asked for at the first token and then now and then; at most one request at a time. */
export interface EntraKeys {
  /**
   * A set that holds `kid`, or the newest there is: then the token is signed by somebody else.
   *
   * @throws AppError `identity_unavailable` (transient) when the address does not answer and no known key decides.
   */
  read(kid: string | undefined): Promise<JSONWebKeySet>;
}

interface Known {
  readonly set: JSONWebKeySet;
  readonly at: number;
}

export function entraKeys({ url, clock, fetch = globalThis.fetch }: EntraKeysOptions): EntraKeys {
  let known: Known | undefined;
  let running: Promise<Known> | undefined;
  let last: { readonly at: number; readonly error?: unknown } | undefined;
  const refresh = async (): Promise<Known> => {
    const at = clock.now();
    try {
      known = { set: await fetchKeys(url, fetch), at };
      last = { at };
      return known;
    } catch (error) {
      last = { at, error };
      throw error;
    }
  };
  /** The outcome of the request before stands for a while. */
  const ask = (): Promise<Known> => {
    const isCooling = last !== undefined && isWithin(clock.now() - last.at, COOLDOWN_MS);
    if (isCooling && last?.error !== undefined) return Promise.reject(last.error);
    if (isCooling && known !== undefined) return Promise.resolve(known);
    running ??= refresh().finally(() => {
      running = undefined;
    });
    return running;
  };
  return {
    read: async (kid) => {
      const holder = known !== undefined && holds(known.set, kid) ? known : undefined;
      const age = holder === undefined ? Number.POSITIVE_INFINITY : clock.now() - holder.at;
      if (holder !== undefined && isWithin(age, FRESH_MS)) return holder.set;
      try {
        return (await ask()).set;
      } catch (error) {
        if (holder !== undefined && isWithin(age, KNOWN_MAX_MS)) return holder.set;
        throw transient("identity_unavailable", { what: "signing keys" }, error);
      }
    },
  };
}

/** A clock that was set back must not keep anything for hours. */
const isWithin = (ageMs: number, maxMs: number): boolean => ageMs >= 0 && ageMs < maxMs;

const holds = (set: JSONWebKeySet, kid: string | undefined): boolean =>
  kid === undefined || set.keys.some((key) => key.kid === kid);

/** Belongs to all requests that wait for it, so none of them ends it. */
async function fetchKeys(url: string, fetch: typeof globalThis.fetch): Promise<JSONWebKeySet> {
  const signal = withDeadline(new AbortController().signal, FETCH_DEADLINE_MS);
  const response = await fetch(url, { signal, redirect: "error" });
  const text = await readAtMost(response, BYTES_MAX);
  if (response.status !== 200) throw notKeys(`status ${response.status}`);
  return parseKeys(text);
}

async function readAtMost(response: Response, bytesMax: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength;
    if (bytes > bytesMax) throw notKeys(`more than ${bytesMax} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

function parseKeys(text: string): JSONWebKeySet {
  const set: unknown = JSON.parse(text);
  if (!isKeySet(set)) throw notKeys("not a key set");
  return set;
}

const isKeySet = (set: unknown): set is JSONWebKeySet =>
  typeof set === "object" &&
  set !== null &&
  "keys" in set &&
  Array.isArray(set.keys) &&
  set.keys.length > 0 &&
  set.keys.length <= KEYS_MAX &&
  set.keys.every((key) => typeof key === "object" && key !== null);

const notKeys = (reason: string): AppError =>
  new AppError("transient", "identity_unavailable", { details: { what: reason } });
