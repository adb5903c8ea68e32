import { vector } from "@electric-sql/pglite/vector";
import type { App } from "@supabase/lite";
import { createPgliteConnection } from "@supabase/lite/pglite";
import { createPostgresConnection } from "@supabase/lite/postgres";
import { lostConnections } from "./lost-connections.ts";
import type { SqlSession } from "./migrations.ts";

export type SupabaseDatabase =
  /** Embedded, one session, has pgvector. Without `dir` everything stays in memory. */
  | { readonly kind: "pglite"; readonly dir?: string }
  | { readonly kind: "postgres"; readonly url: string };

type Connection = App["connection"];

export interface SupabaseConnection {
  readonly connection: Connection;
  /** Runs `work` in one session of the same database. */
  withSession<T>(work: (session: SqlSession) => Promise<T>): Promise<T>;
}

/** What a hosted project allows a statement of the API. PGlite does not interrupt statements. */
const STATEMENT_TIMEOUT_MS = 8_000;
const CONNECTIONS_MAX = 10;
const IDLE_SECONDS = 30;

/** A connection for `@supabase/lite` that answers as PostgREST does: see the corrections below. */
export async function openConnection(database: SupabaseDatabase): Promise<SupabaseConnection> {
  const opened =
    database.kind === "pglite" ? await openPglite(database.dir) : openPostgres(database.url);
  correctErrors(opened.connection);
  prepareInOneStatement(opened.connection);
  return opened;
}

async function openPglite(dir: string | undefined): Promise<SupabaseConnection> {
  const connection = await createPgliteConnection({
    ...(dir === undefined ? {} : { url: dir }),
    pgliteOptions: {
      extensions: { vector },
      parsers: {
        [OID.timestamptz]: isoTimestamp,
        [OID.timestamp]: isoTimestamp,
        [OID.numeric]: jsonNumber,
        [OID.bigint]: jsonNumber,
      },
    },
  });
  await connection.driver.waitReady;
  const session: SqlSession = {
    exec: async (sql) => (await connection.driver.exec(sql)).at(-1)?.rows ?? [],
  };
  return { connection, withSession: (work) => work(session) };
}

function openPostgres(url: string): SupabaseConnection {
  const options = { max: CONNECTIONS_MAX, idle_timeout: IDLE_SECONDS, onnotice: () => {} };
  const lost = lostConnections();
  const connection = createPostgresConnection({
    url,
    postgresOptions: {
      ...options,
      onclose: lost.onClose,
      connection: { statement_timeout: STATEMENT_TIMEOUT_MS },
      types: {
        timestamptz: type(OID.timestamptz, isoTimestamp),
        timestamp: type(OID.timestamp, isoTimestamp),
        numeric: type(OID.numeric, jsonNumber),
        bigint: type(OID.bigint, jsonNumber),
        json: type(OID.json, parseJson, jsonOnce),
        jsonb: type(OID.jsonb, parseJson, jsonOnce),
      },
    },
  });
  lost.guard(connection.driver);
  return {
    connection,
    withSession: async (work) => {
      const { default: postgres } = await import("postgres");
      const sql = postgres(url, { ...options, max: 1 });
      try {
        return await work({ exec: (text) => sql.unsafe(text).simple() });
      } finally {
        await sql.end();
      }
    },
  };
}

const OID = {
  bigint: 20,
  json: 114,
  timestamp: 1114,
  timestamptz: 1184,
  numeric: 1700,
  jsonb: 3802,
};

const type = (
  oid: number,
  parse: (text: string) => unknown,
  serialize: (value: unknown) => string = String,
) => ({ to: oid, from: [oid], parse, serialize });

/** PostgREST writes timestamps with "T" and a full offset; lite passes on Postgres' own text. */
const isoTimestamp = (text: string): string =>
  text.replace(" ", "T").replace(/([+-]\d\d)$/, "$1:00");

/** PostgREST writes numbers as JSON numbers, whose digits beyond 2^53 JavaScript loses: exact amounts travel as text. */
function jsonNumber(text: string): number | string {
  const number = Number(text);
  return Number.isFinite(number) ? number : text;
}

const parseJson = (text: string): unknown => JSON.parse(text);

/** lite has made a text of the jsonb arguments of a call already; once more would store a JSON string. */
const jsonOnce = (value: unknown): string =>
  typeof value === "string" ? value : JSON.stringify(value);

/**
 * Without this, P0001, P0002, 40001, 57014, 23514, XX… and our own SQLSTATEs become HTTP 500 without code, detail and
 * hint. lite passes on an error with the code PGRST whose message and detail are JSON.
 */
function correctErrors(connection: Connection): void {
  const original = connection.normalizeDbError.bind(connection);
  connection.normalizeDbError = (raw: unknown): unknown => {
    const error = original(raw);
    const { code, message, detail, hint } = error as Record<string, unknown>;
    const isRight = typeof code !== "string" || !SQLSTATE.test(code) || RIGHT_IN_LITE.test(code);
    if (isRight || schemaOf(raw) === "storage") return error; // its Storage API tests for 23505 itself
    const body = { code, message, details: detail ?? null, hint: hint ?? null };
    return Object.assign(new Error(JSON.stringify(body)), {
      code: "PGRST",
      detail: JSON.stringify({ status: statusOf(code), headers: {} }),
      stack: "",
    });
  };
}

/** What lite calls before each request, in its transaction. */
interface Preparing {
  applyJwtSessionContext(transaction: Runner, vars: Session, isOwnRole: boolean): Promise<void>;
  applyRpcRequestGucs(transaction: Runner, request: RpcRequest): Promise<void>;
}
interface Runner {
  executeQuery(query: object): Promise<unknown>;
}
interface Session {
  readonly auth?: { readonly role?: string; readonly uid?: unknown; readonly jwt?: unknown };
  readonly storage?: { readonly operation?: unknown };
}
interface RpcRequest {
  readonly method: string;
  readonly path: string;
  readonly requestHeaders?: object;
}

/**
 * PostgREST prepares a request with one statement. lite sends up to eleven, one after another, which is most of the time
 * that a small call takes here and says nothing about the hosted service. The settings are the same.
 */
function prepareInOneStatement(connection: Connection): void {
  const lite = connection as unknown as Preparing;
  const original = lite.applyJwtSessionContext.bind(connection);
  lite.applyJwtSessionContext = async (transaction, vars, isOwnRole) => {
    if (isOwnRole) return original(transaction, vars, isOwnRole);
    const { role = "anon", uid, jwt } = vars.auth ?? {};
    await setLocally(transaction, {
      role: role === "" ? "anon" : role,
      "request.jwt.claim.sub": String(uid ?? ""),
      "request.jwt.claim.role": role === "" ? "anon" : role,
      "storage.operation": String(vars.storage?.operation ?? ""),
      ...(typeof jwt === "object" && jwt !== null
        ? { "request.jwt.claims": JSON.stringify(jwt) }
        : {}),
    });
  };
  lite.applyRpcRequestGucs = (transaction, { method, path, requestHeaders = {} }) =>
    setLocally(transaction, {
      "response.status": "",
      "response.headers": "",
      "request.method": method,
      "request.path": path,
      "request.headers": JSON.stringify(requestHeaders),
    });
}

async function setLocally(transaction: Runner, settings: Record<string, string>): Promise<void> {
  const calls = Object.keys(settings).map((name, i) => `set_config('${name}', $${i + 1}, true)`);
  await transaction.executeQuery({
    sql: `select ${calls.join(", ")}`,
    parameters: Object.values(settings),
    query: { kind: "RawNode", sqlFragments: [], parameters: [] },
    queryId: { queryId: "prepare-request" },
  });
}

function schemaOf(raw: unknown): unknown {
  if (typeof raw !== "object" || raw === null) return undefined;
  const { schema, schema_name } = raw as Record<string, unknown>;
  return schema ?? schema_name;
}

const SQLSTATE = /^[0-9A-Z]{5}$/;
const RIGHT_IN_LITE = /^(PT...|PGRST|42...|22...|21...|23502|25006)$/;

/** PostgREST's table, https://docs.postgrest.org/en/stable/references/errors.html */
const statusOf = (sqlstate: string): number =>
  STATUS_OF_CODE[sqlstate] ?? STATUS_OF_CLASS[sqlstate.slice(0, 2)] ?? 400;

const STATUS_OF_CODE: Readonly<Record<string, number>> = {
  "23503": 409,
  "23505": 409,
  "25006": 405,
  "42883": 404,
  "42P01": 404,
  "42P17": 500,
  "53400": 500,
  "57P01": 503,
  P0001: 400,
};

const STATUS_OF_CLASS: Readonly<Record<string, number>> = {
  "08": 503,
  "09": 500,
  "0L": 403,
  "0P": 403,
  "25": 500,
  "28": 403,
  "2D": 500,
  "38": 500,
  "39": 500,
  "3B": 500,
  "40": 500,
  "53": 503,
  "54": 500,
  "55": 500,
  "57": 500,
  "58": 500,
  F0: 500,
  HV: 500,
  P0: 500,
  XX: 500,
};
