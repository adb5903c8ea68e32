import { createHmac, createSign, KeyObject } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import {
  CompactSign,
  type CryptoKey,
  exportJWK,
  exportSPKI,
  generateKeyPair,
  type JWK,
  SignJWT,
} from "jose";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { entraKeys } from "../../src/lib/runtime/entra-keys.ts";
import { entraTokens, isTokenShaped } from "../../src/lib/runtime/entra-tokens.ts";
import { API_KEYS, SECRETS, type Send, sendMounted } from "../support/http-shell.ts";
import { openShell } from "../support/toy-shell.ts";

const TENANT = "7c9e6679-7425-40de-944b-e07fc1f90ae7";
const OTHER_TENANT = "11111111-7425-40de-944b-e07fc1f90ae7";
const AUDIENCE = "api://worker-service";
const ISSUER = `https://login.microsoftonline.com/${TENANT}/v2.0`;
const START = Date.parse("2026-11-24T10:00:00Z");
const MINUTE_MS = 60_000;

interface SigningKey {
  readonly kid: string;
  readonly privateKey: CryptoKey;
  readonly publicKey: CryptoKey;
  readonly jwk: JWK;
}

async function makeKey(kid: string): Promise<SigningKey> {
  const { privateKey, publicKey } = await generateKeyPair("RS256", { extractable: true });
  return { kid, privateKey, publicKey, jwk: { ...(await exportJWK(publicKey)), kid, use: "sig" } };
}

/** An issuer on the loopback: real keys, a real address, and a switch. */
const issuer = {
  keys: [] as JWK[],
  status: 200,
  requests: 0,
  pad: "",
  body: undefined as string | undefined,
};
const server = createServer((_request, response) => {
  issuer.requests += 1;
  response.writeHead(issuer.status, { "content-type": "application/json" });
  response.end(issuer.body ?? JSON.stringify({ keys: issuer.keys, pad: issuer.pad }));
});

let one: SigningKey;
let two: SigningKey;
let stranger: SigningKey;
beforeAll(async () => {
  [one, two, stranger] = await Promise.all([makeKey("one"), makeKey("two"), makeKey("one")]);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
});
afterAll(() => {
  server.close();
  server.closeAllConnections();
});
beforeEach(() => {
  Object.assign(issuer, { keys: [one.jwk], status: 200, requests: 0, pad: "", body: undefined });
});

/** A service that was just started, with a clock to set. */
function openService() {
  const time = { now: START };
  const clock = { now: () => time.now };
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys`;
  const keys = entraKeys({ url, clock });
  const tokens = entraTokens({ tenantId: TENANT, audiences: [AUDIENCE, "0a1b"], clock, keys });
  const settings = { apiKeys: API_KEYS, corsOrigins: [], tokens };
  const send = sendMounted(openShell(settings));
  return { time, send, get: (token: string) => ask(send, token) };
}

const ask = async (send: Send, token: string, path = "/things/1") => {
  const answer = await send(path, { headers: { authorization: `Bearer ${token}` } });
  const { code, detail, caller } = answer.json();
  return { status: answer.status, code, detail, caller, lines: answer.lines };
};

const seconds = (ms: number) => Math.floor(ms / 1000);
const claims = (changes: Record<string, unknown> = {}) => ({
  iss: ISSUER,
  aud: AUDIENCE,
  tid: TENANT,
  oid: "b1e2",
  sub: "pairwise",
  preferred_username: "jane@example.com",
  roles: ["viewer"],
  iat: seconds(START),
  nbf: seconds(START),
  exp: seconds(START + 60 * MINUTE_MS),
  ...changes,
});

const sign = (payload: Record<string, unknown>, { kid, privateKey } = one): Promise<string> =>
  new SignJWT(payload).setProtectedHeader({ alg: "RS256", kid, typ: "JWT" }).sign(privateKey);

const encode = (part: unknown): string => Buffer.from(JSON.stringify(part)).toString("base64url");

describe("an access token of the directory", () => {
  test.each([
    [["viewer"], "viewer"],
    [["operator", "viewer"], "operator"],
    [["unrelated", "admin", "viewer"], "admin"],
    [["producer"], undefined],
  ])("with the roles %j is let in as %s", async (roles, role) => {
    const { get } = openService();
    const answer = await get(await sign(claims({ roles })));
    if (role === undefined) expect(answer).toMatchObject({ status: 403, code: "role_missing" });
    else expect(answer).toMatchObject({ status: 200, caller: { name: "entra:b1e2", role } });
  });

  test.each([
    ["version 1", { iss: `https://sts.windows.net/${TENANT}/` }],
    ["its other audience", { aud: "0a1b" }],
    ["several audiences", { aud: ["else", AUDIENCE] }],
    ["a clock that is 59 s behind", { nbf: seconds(START) + 59, iat: seconds(START) + 59 }],
    ["an end 59 s ago", { exp: seconds(START) - 59 }],
  ])("is accepted with %s", async (_, changes) => {
    expect(await openService().get(await sign(claims(changes)))).toMatchObject({ status: 200 });
  });

  test("is known by its object id alone: no log line names the person", async () => {
    const { get } = openService();
    for (const changes of [{}, { aud: "else" }, { roles: [] }, { exp: 1 }]) {
      const { lines } = await get(await sign(claims(changes)));
      expect(lines).toHaveLength(1);
      expect(JSON.stringify(lines)).not.toMatch(/jane|example\.com|eyJ/);
    }
  });

  test("without a role of ours is refused with the reason", async () => {
    const { get } = openService();
    for (const roles of [[], ["Admin"], "admin", undefined, [["admin"]], { admin: true }]) {
      const answer = await get(await sign(claims({ roles })));
      expect(answer).toMatchObject({ status: 403, code: "role_missing" });
    }
  });

  test("beside keys: those still work, and a key is never taken for a token", async () => {
    const { send, get } = openService();
    expect(await get(SECRETS.viewer)).toMatchObject({
      status: 200,
      caller: { name: "the-viewer" },
    });
    const headers = { "x-api-key": await sign(claims()) };
    expect(await send("/things/1", { headers })).toMatchObject({ status: 401 });
    expect(issuer.requests).toBe(0);
  });

  test("is refused where no directory is configured", async () => {
    const send = sendMounted(openShell());
    expect(await ask(send, await sign(claims()))).toMatchObject({ status: 401 });
  });
});

/** What an attacker can send. Each is one change away from a token that is accepted. */
const HOSTILE: Record<string, () => Promise<string> | string> = {
  "an algorithm of none": () => `${encode({ alg: "none", kid: "one" })}.${encode(claims())}.`,
  "an algorithm of None with a signature": async () =>
    `${encode({ alg: "None", kid: "one" })}.${encode(claims())}.${(await sign(claims())).split(".")[2]}`,
  "HS256 with the public key as its secret": async () => {
    const body = `${encode({ alg: "HS256", kid: "one" })}.${encode(claims())}`;
    const secret = await exportSPKI(one.publicKey);
    return `${body}.${createHmac("sha256", secret).update(body).digest("base64url")}`;
  },
  "RS512 by a real key, because it is not on the list": () => {
    const body = `${encode({ alg: "RS512", kid: "one" })}.${encode(claims())}`;
    const key = KeyObject.from(one.privateKey);
    return `${body}.${createSign("RSA-SHA512").update(body).sign(key, "base64url")}`;
  },
  "a key of its own in the header": () =>
    new SignJWT(claims())
      .setProtectedHeader({ alg: "RS256", kid: "one", jwk: stranger.jwk })
      .sign(stranger.privateKey),
  "the address of its own keys in the header": () =>
    new SignJWT(claims())
      .setProtectedHeader({ alg: "RS256", kid: "one", jku: "https://evil.example/keys" })
      .sign(stranger.privateKey),
  "the signature of a stranger under a known key id": () => sign(claims(), stranger),
  "a key id that nobody published": () => sign(claims(), { ...stranger, kid: "../../one" }),
  "claims that were changed after signing": async () => {
    const [header, , signature] = (await sign(claims())).split(".");
    return `${header}.${encode(claims({ roles: ["admin"] }))}.${signature}`;
  },
  "no signature": async () => (await sign(claims())).replace(/[^.]*$/, ""),
  "a critical extension that we do not know": () =>
    new SignJWT(claims())
      .setProtectedHeader({ alg: "RS256", kid: "one", crit: ["x"], x: 1 })
      .sign(one.privateKey, { crit: { x: true } }),
  "another audience": () => sign(claims({ aud: "api://other" })),
  "no audience": () => sign(claims({ aud: undefined })),
  "another tenant's issuer": () =>
    sign(claims({ iss: `https://login.microsoftonline.com/${OTHER_TENANT}/v2.0` })),
  "an issuer that starts like ours": () => sign(claims({ iss: `${ISSUER}.evil.example` })),
  "another tenant's id": () => sign(claims({ tid: OTHER_TENANT })),
  "no tenant id": () => sign(claims({ tid: undefined })),
  "an end 61 s ago": () => sign(claims({ exp: seconds(START) - 61 })),
  "no end": () => sign(claims({ exp: undefined })),
  "a beginning in 61 s": () => sign(claims({ nbf: seconds(START) + 61 })),
  "an end that is no number": () => sign(claims({ exp: "tomorrow" })),
  "nobody's name": () => sign(claims({ oid: undefined, sub: undefined })),
  "a name with line breaks": () => sign(claims({ oid: "x\nx" })),
  "more characters than a header may have": () => sign(claims({ pad: "x".repeat(16_384) })),
  "claims that are a list": () =>
    new CompactSign(Buffer.from("[]"))
      .setProtectedHeader({ alg: "RS256", kid: "one" })
      .sign(one.privateKey),
  "three parts that are no JSON": () => "eyJ.eyJ.eyJ",
};

describe("a token is refused with 401 when it has", () => {
  test.each(Object.keys(HOSTILE))("%s", async (name) => {
    const { get } = openService();
    expect(await get(await sign(claims()))).toMatchObject({ status: 200 });
    const answer = await get(String(await HOSTILE[name]?.()));
    expect(answer).toMatchObject({ status: 401, code: "credentials_missing" });
  });

  test("expired, with the reason for its holder", async () => {
    const { get } = openService();
    const expired = await get(await sign(claims({ exp: 1 })));
    expect(expired.detail).toBe("the token has expired");
    const forged = await get(await sign(claims({ exp: 1 }), stranger));
    expect(forged.detail).toBeUndefined();
  });
});

describe("the signing keys", () => {
  test("are asked for once, for many tokens at once and for ten minutes", async () => {
    const { get, time } = openService();
    const token = await sign(claims());
    const answers = await Promise.all(Array.from({ length: 20 }, () => get(token)));
    expect(answers.every(({ status }) => status === 200)).toBe(true);
    time.now += 9 * MINUTE_MS;
    await get(token);
    expect(issuer.requests).toBe(1);
    time.now += 2 * MINUTE_MS;
    await get(token);
    expect(issuer.requests).toBe(2);
  });

  test("follow a rotation at the first token that needs the new key", async () => {
    const { get, time } = openService();
    await get(await sign(claims()));
    issuer.keys = [one.jwk, two.jwk];
    time.now += MINUTE_MS;
    expect(await get(await sign(claims(), two))).toMatchObject({ status: 200 });
    expect(await get(await sign(claims()))).toMatchObject({ status: 200 });
  });

  test("that were withdrawn no longer serve", async () => {
    const { get, time } = openService();
    await get(await sign(claims()));
    issuer.keys = [two.jwk];
    time.now += 11 * MINUTE_MS;
    expect(await get(await sign(claims()))).toMatchObject({ status: 401 });
  });

  test("are not asked for again by each unknown key id", async () => {
    const { get } = openService();
    await get(await sign(claims()));
    for (let n = 0; n < 10; n += 1) {
      const unknown = await sign(claims(), { ...stranger, kid: `made-up-${n}` });
      expect(await get(unknown)).toMatchObject({ status: 401 });
    }
    expect(issuer.requests).toBe(1);
  });

  test.each([
    ["answers 500", { status: 500 }],
    ["answers a page", { body: "<html>" }],
    ["answers no keys", { body: '{"keys":[]}' }],
    ["answers without end", { pad: "x".repeat(300_000) }],
  ])("cannot be read when their address %s: 503, and not 401", async (_, broken) => {
    Object.assign(issuer, broken);
    const { get, time } = openService();
    const token = await sign(claims());
    expect(await get(token)).toMatchObject({ status: 503, code: "identity_unavailable" });
    expect(await get(token)).toMatchObject({ status: 503 });
    expect(issuer.requests).toBe(1); // an outage is not made worse
    Object.assign(issuer, { status: 200, pad: "", body: undefined });
    time.now += MINUTE_MS;
    expect(await get(token)).toMatchObject({ status: 200 });
  });

  test("that are known serve through an outage of a day, and no longer", async () => {
    const { get, time } = openService();
    const token = await sign(claims({ exp: seconds(START + 72 * 60 * MINUTE_MS) }));
    await get(token);
    issuer.status = 503;
    time.now += 23 * 60 * MINUTE_MS;
    expect(await get(token)).toMatchObject({ status: 200 });
    expect(await get(await sign(claims(), two))).toMatchObject({ status: 503 });
    time.now += 2 * 60 * MINUTE_MS;
    expect(await get(token)).toMatchObject({ status: 503 });
  });
});

test.each([
  ["wsk_abc-DEF_0123", false],
  ["a.b.c", true],
  ["a.b.", true],
  ["a.b", false],
  ["a.b.c.d", false],
])("%s looks like a token: %s", (secret, isToken) => {
  expect(isTokenShaped(secret)).toBe(isToken);
});

describe("a key with scopes", () => {
  const [key] = API_KEYS.filter(({ role }) => role === "admin");
  const open = (scopes: readonly string[]) => {
    const apiKeys = key === undefined ? [] : [{ ...key, scopes }];
    return sendMounted(openShell({ apiKeys, corsOrigins: [] }));
  };

  test("is for those parts of the API only, and is told which", async () => {
    expect(await ask(open(["things"]), SECRETS.admin)).toMatchObject({ status: 200 });
    expect(await ask(open(["usage", "cron"]), SECRETS.admin)).toMatchObject({
      status: 403,
      code: "scope_missing",
      detail: "the key is for usage, cron",
    });
  });
});
