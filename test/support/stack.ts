import { randomUUID } from "node:crypto";
import postgres, { type Sql } from "postgres";
import { inject } from "vitest";
import { type RedisKind, startRedis } from "../../local/backends/redis.ts";
import { RespConnection } from "../../local/backends/resp-connection.ts";
import { SUPABASE_KEYS } from "../../local/backends/supabase-keys.ts";
import { startUpstashBridge } from "../../local/backends/upstash-bridge.ts";
import type { GrantedDatabase } from "./test-backends.ts";

/** A database of its own with all migrations applied, on the Postgres of the run. */
export interface TestDatabase {
  readonly url: string;
  /** As the owner of everything. bigint and numeric come as text. */
  readonly sql: Sql;
  /** The Supabase API on it; starts with its first request. `key` calls as `service_role`. */
  supabase(): Promise<{
    readonly url: string;
    readonly key: string;
    readonly publishableKey: string;
  }>;
  close(): Promise<void>;
}

export async function openDatabase(): Promise<TestDatabase> {
  const granted = (await ask("POST", "databases")) as GrantedDatabase;
  const sql = postgres(granted.url, { max: 5, onnotice: () => {} });
  return {
    url: granted.url,
    sql,
    supabase: () =>
      Promise.resolve({
        url: granted.supabaseUrl,
        key: SUPABASE_KEYS.secret,
        publishableKey: SUPABASE_KEYS.publishable,
      }),
    close: async () => {
      await sql.end({ timeout: 1 });
      await ask("DELETE", `databases/${granted.name}`);
    },
  };
}

/** A Redis of its own, with the REST interface of Upstash in front of it. */
export interface TestRedis {
  readonly url: string;
  readonly port: number;
  readonly kind: RedisKind;
  readonly upstash: { readonly url: string; readonly token: string };
  /** Connections stay open and nothing answers, until `thaw`. */
  freeze(): void;
  thaw(): void;
  /** As a crash would: everything that was in it is gone. */
  kill(): Promise<void>;
  /** Starts again on the same port, empty. Ends it first when it still runs. */
  restart(): Promise<void>;
  flush(): Promise<void>;
  close(): Promise<void>;
}

export async function openRedis(options: { readonly kind?: RedisKind } = {}): Promise<TestRedis> {
  let server = await startRedis(options);
  const { url, port, kind } = server;
  const bridge = await startUpstashBridge({ redisUrl: url, token: `test-${randomUUID()}` });
  return {
    url,
    port,
    kind,
    upstash: { url: bridge.url, token: bridge.token },
    freeze: () => server.freeze(),
    thaw: () => server.thaw(),
    kill: () => server.kill(),
    restart: async () => {
      await server.kill();
      server = await startRedis({ port, kind });
    },
    flush: async () => {
      const connection = new RespConnection(port);
      await connection.send([["FLUSHALL"]]);
      connection.close();
    },
    close: async () => {
      await bridge.close();
      await server.kill();
    },
  };
}

/** The storage queues of the run; names keep test files apart. */
export interface TestQueues {
  readonly connectionString: string;
  uniqueName(base: string): string;
}

export async function openQueues(): Promise<TestQueues> {
  const { connectionString } = (await ask("GET", "queues")) as { connectionString: string };
  return {
    connectionString,
    uniqueName: (base) => `${base}-${randomUUID().slice(0, 8)}`,
  };
}

async function ask(method: string, path: string): Promise<unknown> {
  const response = await fetch(`${inject("testBackendsUrl")}/${path}`, { method });
  const body = await response.text();
  if (!response.ok) throw new Error(`the backends of the test run: ${body}`);
  return JSON.parse(body);
}
