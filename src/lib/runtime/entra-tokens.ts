import type { JSONWebKeySet, JWTPayload } from "jose";
import { ROLES, type Role } from "../kernel/api-keys.ts";
import type { Clock } from "../kernel/clock.ts";
import { permanent } from "../kernel/errors.ts";
import { type EntraKeys, entraKeys } from "./entra-keys.ts";

/** Clocks differ; tokens are judged as if it were this much earlier and later. */
const TOLERANCE_SECONDS = 60;
/** Of a token with many groups; Node takes no longer header. */
const TOKEN_CHARACTERS_MAX = 16_384;
const ALGORITHMS = ["RS256"];

export interface EntraOptions {
  /** GUID. */
  readonly tenantId: string;
  /** Of tokens for this service: its client id, its application id URI, or both. */
  readonly audiences: readonly string[];
  readonly clock: Clock;
  readonly keys?: EntraKeys;
}

/** Who the token speaks for. `name` is an id: names and addresses of people belong into no log. */
export interface TokenHolder {
  readonly name: string;
  readonly role: Role;
}

export interface Tokens {
  /**
   * @throws AppError `credentials_missing` (not a token of ours) · `role_missing` (no role of ours in `roles`) ·
   *   `identity_unavailable` (transient: the signing keys cannot be read)
   */
  verify(token: string): Promise<TokenHolder>;
}

/** Three parts: a key of `API_KEYS` never looks like this. */
export const isTokenShaped = (secret: string): boolean => /^[\w-]+\.[\w-]*\.[\w-]*$/.test(secret);

/**
 * Access tokens of one Entra tenant, both versions. Signature, issuer, audience, tenant and times are checked against the
 * tenant's published keys; nothing in the token says how.
 */
export function entraTokens(options: EntraOptions): Tokens {
  const { tenantId, clock } = options;
  const keys = options.keys ?? entraKeys({ url: keysUrl(tenantId), clock });
  return {
    verify: async (token) => {
      if (token.length > TOKEN_CHARACTERS_MAX) throw permanent("credentials_missing");
      const payload = await verifyWith(keys, token, options);
      return { name: nameOf(payload), role: roleOf(payload) };
    },
  };
}

export const keysUrl = (tenantId: string): string =>
  `https://login.microsoftonline.com/${tenantId}/discovery/v2.0/keys`;

const issuersOf = (tenantId: string): string[] => [
  `https://login.microsoftonline.com/${tenantId}/v2.0`,
  `https://sts.windows.net/${tenantId}/`,
];

async function verifyWith(
  keys: EntraKeys,
  token: string,
  { tenantId, audiences, clock }: EntraOptions,
): Promise<JWTPayload> {
  const jose = await import("jose");
  try {
    const { payload } = await jose.jwtVerify(
      token,
      async (header, jws) => finderOf(jose, await keys.read(header.kid))(header, jws),
      {
        algorithms: ALGORITHMS,
        issuer: issuersOf(tenantId),
        audience: [...audiences],
        requiredClaims: ["exp", "tid"],
        clockTolerance: TOLERANCE_SECONDS,
        currentDate: new Date(clock.now()),
      },
    );
    if (payload["tid"] !== tenantId) throw permanent("credentials_missing");
    return payload;
  } catch (error) {
    if (!(error instanceof jose.errors.JOSEError || error instanceof TypeError)) throw error;
    // Not as the cause: it holds the claims, and those name people.
    throw permanent("credentials_missing", {
      what: error.message.slice(0, 200),
      ...reasonOf(error),
    });
  }
}

type Jose = typeof import("jose");
type Finder = ReturnType<Jose["createLocalJWKSet"]>;
/** Importing a key costs more than a signature check. */
const finders = new WeakMap<JSONWebKeySet, Finder>();

function finderOf(jose: Jose, set: JSONWebKeySet): Finder {
  const finder = finders.get(set) ?? jose.createLocalJWKSet(set);
  finders.set(set, finder);
  return finder;
}

/** Claims are judged after the signature, so what follows is told to nobody but a holder of a real token. */
function reasonOf(error: Error & { readonly claim?: unknown }): { reason?: string } {
  const { claim } = error;
  if (claim === "exp") return { reason: "the token has expired" };
  if (claim === "nbf") return { reason: "the token is not valid yet" };
  if (claim === "aud") return { reason: "the token is for another audience" };
  return {};
}

/** The object id, which is the same in every token of a person or application. */
function nameOf({ sub, ...claims }: JWTPayload): string {
  const id = claims["oid"] ?? sub;
  if (typeof id === "string" && /^[\w.:-]{1,100}$/.test(id)) return `entra:${id}`;
  throw permanent("credentials_missing", { reason: "the token names nobody" });
}

/** The most that any role grants. */
function roleOf(payload: JWTPayload): Role {
  const { roles } = payload;
  const given = Array.isArray(roles) ? roles : [];
  const role = ROLES.toReversed().find((known) => given.includes(known));
  if (role !== undefined) return role;
  throw permanent("role_missing", {
    reason: `the token has none of the roles ${ROLES.join(", ")}`,
  });
}
