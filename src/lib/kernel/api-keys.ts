import { createHash, timingSafeEqual } from "node:crypto";

/**
 * - `producer`: may record usage, nothing else
 * - `viewer`: may read
 * - `operator`: may also run, enable, disable, replay
 * - `admin`: may do everything
 */
export const ROLES = ["producer", "viewer", "operator", "admin"] as const;
export type Role = (typeof ROLES)[number];

/** A key is known by its hash only: 64 lower-case hex digits. */
export interface ApiKey {
  readonly name: string;
  readonly role: Role;
  readonly sha256: string;
  /** The parts of the API it is for, by the first segment of their paths; undefined = all. */
  readonly scopes?: readonly string[];
}

export type ParsedApiKeys =
  | { readonly kind: "keys"; readonly keys: readonly ApiKey[] }
  | { readonly kind: "invalid"; readonly reason: string };

const ENTRY =
  /^([a-z0-9-]{1,40}):(producer|viewer|operator|admin):sha256:([0-9a-fA-F]{64})(?::([a-z-]{1,30}(?:\+[a-z-]{1,30}){0,19}))?$/;

/**
 * Reads `name:role:sha256:<hex>[:<scope>+<scope>…]` entries separated by commas or white space. The reason names the position, no value.
 * Two entries may share a name, so that a key can be replaced without a gap, but not the key itself: which role would
 * hold is anybody's guess.
 */
export function parseApiKeys(text: string): ParsedApiKeys {
  const entries = text.split(/[\s,]+/).filter((entry) => entry !== "");
  const keys: ApiKey[] = [];
  for (const [index, entry] of entries.entries()) {
    const key = parseEntry(entry);
    if (key === undefined)
      return invalid(`entry ${index + 1} is not name:role:sha256:<64 hex digits>[:scopes]`);
    if (keys.some(({ sha256 }) => sha256 === key.sha256))
      return invalid(`entry ${index + 1} repeats the key of an earlier entry`);
    keys.push(key);
  }
  return { kind: "keys", keys };
}

function parseEntry(entry: string): ApiKey | undefined {
  const [, name, role, hash, scopes] = ENTRY.exec(entry) ?? [];
  if (name === undefined || role === undefined || hash === undefined) return undefined;
  const key = { name, role: role as Role, sha256: hash.toLowerCase() };
  return scopes === undefined ? key : { ...key, scopes: scopes.split("+") };
}

const invalid = (reason: string) => ({ kind: "invalid", reason }) as const;

/** The key whose hash fits, found in the same time whichever it is. */
export function findApiKey(keys: readonly ApiKey[], secret: string): ApiKey | undefined {
  const given = createHash("sha256").update(secret).digest();
  let found: ApiKey | undefined;
  for (const key of keys) if (timingSafeEqual(Buffer.from(key.sha256, "hex"), given)) found = key;
  return found;
}

const GRANTS: Readonly<Record<Role, readonly Role[]>> = {
  producer: ["producer"],
  viewer: ["viewer"],
  operator: ["operator", "viewer", "producer"],
  admin: ["admin", "operator", "viewer", "producer"],
};

/** Whether a caller with `role` may do what `needed` is for. */
export const isGranted = (role: Role, needed: Role): boolean => GRANTS[role].includes(needed);

/** `usage` covers `/usage/…` and `/usage-runs/…`, `cron` covers `/cron/…`: the first segment, or what it starts with. */
export function isInScope(scopes: readonly string[] | undefined, path: string): boolean {
  const [, segment = ""] = path.split("/");
  return scopes?.some((it) => segment === it || segment.startsWith(`${it}-`)) ?? true;
}
