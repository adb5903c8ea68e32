import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres, { type Sql } from "postgres";
import { type RunningChild, startNodeChild } from "../../local/backends/child-process.ts";
import { applyMigrations, readMigrations, withoutVector } from "../../local/backends/migrations.ts";
import { startPostgres } from "../../local/backends/postgres.ts";

const TEMPLATE = "template_worker";
/** Ten for the API of each open database, and what the tests open themselves. */
const CONNECTIONS_MAX = "200";
const DATABASES_MAX = 10_000;
const HUB_CLOSE_MS = 5000;

/** One clean, migrated database of the run. */
export interface GrantedDatabase {
  readonly name: string;
  readonly url: string;
  readonly supabaseUrl: string;
}

interface DatabaseServer {
  create(): Promise<GrantedDatabase>;
  drop(name: string): Promise<void>;
  close(): Promise<void>;
}

/**
 * The backends that all test files of a run share, behind a small HTTP interface, because test files run in processes
 * of their own. Nothing starts before somebody asks: a run of pure tests pays nothing.
 */
export async function startTestBackends(): Promise<{ url: string; close(): Promise<void> }> {
  const databases = lazily(startDatabaseServer);
  const azurite = lazily(() =>
    startNodeChild(
      "Azurite",
      new URL("../../local/backends/azurite.child.ts", import.meta.url),
      [],
    ),
  );
  const routes: Record<string, (name: string) => Promise<unknown>> = {
    "POST /databases": async () => (await databases.get()).create(),
    "DELETE /databases": async (name) => (await databases.get()).drop(name),
    "GET /queues": async () => ({ connectionString: (await azurite.get()).value }),
  };
  const server = createServer((request, response) => {
    const [, resource = "", name = ""] = (request.url ?? "").split("/");
    const route =
      routes[`${request.method} /${resource}`] ?? (() => Promise.reject("no such route"));
    route(name).then(
      (body) => response.end(JSON.stringify(body ?? null)),
      (error: unknown) => response.writeHead(500).end(String(error)),
    );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: async () => {
      server.close();
      server.closeAllConnections();
      await Promise.all([databases.end((it) => it.close()), azurite.end((it) => it.stop())]);
    },
  };
}

/** Starts at the first `get`, and is ended only if it was started. */
function lazily<T>(start: () => Promise<T>): {
  get(): Promise<T>;
  end(stop: (started: T) => Promise<void>): Promise<void>;
} {
  let started: Promise<T> | undefined;
  return {
    get: () => {
      started ??= start();
      return started;
    },
    end: async (stop) => {
      const running = await started?.catch(() => undefined);
      if (running !== undefined) await stop(running);
    },
  };
}

async function startDatabaseServer(): Promise<DatabaseServer> {
  const dir = mkdtempSync(join(tmpdir(), "worker-service-test-"));
  const server = await startPostgres({ dir, settings: { max_connections: CONNECTIONS_MAX } });
  const hubFile = new URL("./supabase-hub.child.ts", import.meta.url);
  const [hub] = await Promise.all([
    startNodeChild("Supabase API", hubFile, ["--postgres", server.url]),
    createTemplate(server.url),
  ]);
  const admin = postgres(server.url, { max: 1, onnotice: () => {} });
  const databases = manageDatabases(server.url, admin, hub);
  return {
    ...databases,
    close: async () => {
      await Promise.all([admin.end(), hub.stop()]);
      await server.stop();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

const databaseUrl = (serverUrl: string, name: string): string => new URL(name, serverUrl).href;

async function createTemplate(serverUrl: string): Promise<void> {
  const admin = postgres(serverUrl, { max: 1 });
  await admin.unsafe(`create database ${TEMPLATE}`);
  await admin.end();
  const sql = postgres(databaseUrl(serverUrl, TEMPLATE), { max: 1, onnotice: () => {} });
  const session = { exec: (text: string) => sql.unsafe(text).simple() };
  await applyMigrations(session, withoutVector(readMigrations()));
  await sql.end();
}

function manageDatabases(
  serverUrl: string,
  admin: Sql,
  hub: RunningChild,
): Pick<DatabaseServer, "create" | "drop"> {
  let count = 0;
  return {
    create: async () => {
      count += 1;
      if (count > DATABASES_MAX) throw new Error(`more than ${DATABASES_MAX} databases in one run`);
      const name = `test_${count}`;
      await admin.unsafe(`create database ${name} template ${TEMPLATE}`);
      return { name, url: databaseUrl(serverUrl, name), supabaseUrl: `${hub.value}/${name}` };
    },
    drop: async (name) => {
      if (!/^test_\d+$/.test(name)) throw new Error(`not a test database: ${name}`);
      // An aborted request may keep the API of this database busy; `force` below ends its connections either way.
      const signal = AbortSignal.timeout(HUB_CLOSE_MS);
      await fetch(`${hub.value}/${name}`, { method: "DELETE", signal }).catch(() => {});
      await admin.unsafe(`drop database if exists ${name} with (force)`);
    },
  };
}
