import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { getRequestListener } from "@hono/node-server";
import { App } from "@supabase/lite";
import { applyMigrations, readMigrations, withoutVector } from "./migrations.ts";
import { refuseTakenPort } from "./ports.ts";
import {
  openConnection,
  type SupabaseConnection,
  type SupabaseDatabase,
} from "./supabase-connection.ts";
import { SUPABASE_KEYS } from "./supabase-keys.ts";

const HOST = "127.0.0.1";
/** A long `in` filter is part of the URL. */
const HEADER_BYTES_MAX = 256 * 1024;
const KEEP_ALIVE_MS = 65_000;

export interface SupabaseOptions {
  readonly database: SupabaseDatabase;
  /** 0 or nothing: any free port. */
  readonly port?: number;
  /** Apply the migrations first; on by default. */
  readonly migrate?: boolean;
  /** Folder of the migrations; default `supabase/migrations/` of this repository. */
  readonly migrations?: string;
}

export interface RunningSupabase {
  readonly url: string;
  /** Calls as `service_role`. */
  readonly secretKey: string;
  /** Calls as `anon`. */
  readonly publishableKey: string;
  close(): Promise<void>;
}

/** The Supabase data API over an embedded database, in this process. PGlite blocks the event loop it lives in. */
export async function startSupabase(options: SupabaseOptions): Promise<RunningSupabase> {
  const port = options.port ?? 0;
  await refuseTakenPort(port, "the Supabase API", "--supabase-port");
  const api = await openSupabaseApi(options);
  const server = createServer({ maxHeaderSize: HEADER_BYTES_MAX }, api.listener);
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  server.listen(port, HOST);
  await once(server, "listening");
  return {
    url: `http://${HOST}:${(server.address() as AddressInfo).port}`,
    secretKey: SUPABASE_KEYS.secret,
    publishableKey: SUPABASE_KEYS.publishable,
    close: async () => {
      server.close();
      server.closeAllConnections();
      await api.close();
    },
  };
}

export interface SupabaseApi {
  readonly listener: RequestListener;
  close(): Promise<void>;
}

/** The API without a server of its own. Warm: its first answer reads the whole catalogue. */
export async function openSupabaseApi(
  options: Omit<SupabaseOptions, "port">,
): Promise<SupabaseApi> {
  const opened = await openConnection(options.database);
  try {
    if (options.migrate ?? true) await migrate(opened, options);
    const app = createApp(opened);
    await warmUp(app);
    const listener = getRequestListener(
      (request, { incoming }) =>
        app.fetch(request, { peerAddress: incoming.socket.remoteAddress ?? null }),
      { hostname: HOST },
    );
    return { listener, close: () => opened.connection.close() };
  } catch (error) {
    await opened.connection.close();
    throw error;
  }
}

async function migrate(
  opened: SupabaseConnection,
  { database, migrations }: Pick<SupabaseOptions, "database" | "migrations">,
): Promise<void> {
  const all = readMigrations(migrations);
  const usable = database.kind === "pglite" ? all : withoutVector(all);
  await opened.withSession((session) => applyMigrations(session, usable));
}

const createApp = ({ connection }: SupabaseConnection): App =>
  new App({
    connection,
    api: { schemas: ["public", "worker"] },
    auth: {
      enabled: true,
      publishable_key: SUPABASE_KEYS.publishable,
      secret_key: SUPABASE_KEYS.secret,
    },
  });

/**
 * The first call that reaches the database also grants the roles their rights, and whatever comes meanwhile is refused
 * with XX000 "tuple concurrently updated", or not granted yet. So that call is ours. It may be refused itself: other
 * migrations than this repository's have no `worker.ping`.
 */
async function warmUp(app: App): Promise<void> {
  const { secret } = SUPABASE_KEYS;
  const headers = {
    apikey: secret,
    authorization: `Bearer ${secret}`,
    "content-profile": "worker",
    "content-type": "application/json",
  };
  const call = { method: "POST", headers, body: "{}" };
  const response = await app.fetch(new Request(`http://${HOST}/rest/v1/rpc/ping`, call));
  await response.text();
}
