import { existsSync } from "node:fs";
import { join } from "node:path";
import { type RunningChild, startNodeChild } from "./child-process.ts";
import { lockFolder } from "./folder-lock.ts";
import { startPostgres } from "./postgres.ts";
import { type RedisKind, startRedis } from "./redis.ts";
import { createQueues } from "./storage-queues.ts";
import { SUPABASE_KEYS } from "./supabase-keys.ts";

export type DatabaseKind = "pglite" | "postgres";

/** What the backends keep in their folder. */
export const DATA_FOLDERS = ["pglite", "postgres", "redis", "azurite"] as const;

/** 0 or nothing: any free port. */
export interface BackendPorts {
  readonly supabase?: number;
  readonly postgres?: number;
  readonly redis?: number;
  readonly upstash?: number;
  readonly blob?: number;
  readonly queue?: number;
}

export interface BackendsOptions {
  /** Keeps the data of all of them. */
  readonly dir: string;
  readonly database: DatabaseKind;
  readonly ports?: BackendPorts;
  /** Storage queues to create: the functions host polls trigger queues but creates none. */
  readonly queues: readonly string[];
  /** One line for each thing that is ready, and notes. */
  readonly log: (line: string) => void;
  readonly abort?: AbortSignal;
}

export interface Backends {
  /** What the service needs to find them, under the names of its settings. */
  readonly settings: Readonly<Record<BackendSetting, string>>;
  readonly redisUrl: string;
  readonly redisKind: RedisKind;
  readonly processes: readonly { readonly name: string; readonly pid: number }[];
  /** Resolves with a sentence when one of them ends although nobody stopped it. */
  readonly failed: Promise<string>;
  stop(): Promise<void>;
}

export type BackendSetting =
  | "SUPABASE_URL"
  | "SUPABASE_KEY"
  | "UPSTASH_REDIS_REST_URL"
  | "UPSTASH_REDIS_REST_TOKEN"
  | "AzureWebJobsStorage";

/** The same on every machine, and of no use anywhere else: the bridge listens on 127.0.0.1 only. */
const UPSTASH_TOKEN = "local-development-token";

/**
 * Every backend of the service, embedded and in parallel, each in a process that ends with ours.
 *
 * @throws StartError when one of them cannot start; the others are stopped again.
 */
export async function startBackends(options: BackendsOptions): Promise<Backends> {
  const lock = await lockFolder(options.dir, "stack");
  const started: Part[] = [];
  try {
    const [redis, supabase, storage] = await allStarted([
      startCache(options, started),
      startDatabase(options, started),
      startStorage(options, started),
    ]);
    return {
      settings: {
        SUPABASE_URL: supabase,
        SUPABASE_KEY: SUPABASE_KEYS.secret,
        UPSTASH_REDIS_REST_URL: redis.upstashUrl,
        UPSTASH_REDIS_REST_TOKEN: UPSTASH_TOKEN,
        AzureWebJobsStorage: storage,
      },
      redisUrl: redis.url,
      redisKind: redis.kind,
      processes: started.map(({ name, pid }) => ({ name, pid })),
      failed: Promise.race(started.map(failure)),
      stop: async () => {
        await stopAll(started);
        lock.release();
      },
    };
  } catch (error) {
    await stopAll(started);
    lock.release();
    throw error;
  }
}

type Part = Pick<RunningChild, "name" | "pid" | "ended" | "stop"> & { output?(): string };

const failure = async ({ name, ended, output }: Part): Promise<string> => {
  const how = await ended;
  const words =
    output?.()
      .replace(/^READY .*$/m, "")
      .trim() ?? "";
  return `${name} ended (${how}).${words === "" ? "" : ` Its last output:\n${words}`}`;
};

/** Waits for all, also when one fails: what starts late must be known before everything is stopped. */
async function allStarted<A, B, C>(
  parts: readonly [Promise<A>, Promise<B>, Promise<C>],
): Promise<[A, B, C]> {
  await Promise.allSettled(parts);
  return Promise.all(parts);
}

/** Whoever uses another one ends before it. */
async function stopAll(started: readonly Part[]): Promise<void> {
  const users = started.filter(({ name }) => !PROVIDERS.has(name));
  const providers = started.filter(({ name }) => PROVIDERS.has(name));
  await Promise.all(users.map((part) => part.stop()));
  await Promise.all(providers.map((part) => part.stop()));
}

const PROVIDERS: ReadonlySet<string> = new Set(["Redis", "Postgres"]);

async function startCache(options: BackendsOptions, started: Part[]) {
  const { dir, ports = {}, log } = options;
  const seconds = stopwatch();
  const keptBefore = existsSync(join(dir, "pglite")) || existsSync(join(dir, "postgres"));
  const redis = await startRedis({
    dir: join(dir, "redis"),
    ...(ports.redis ? { port: ports.redis } : {}),
    ...abortOf(options),
  });
  started.push({ name: "Redis", ...redis });
  log(`Redis ready in ${seconds()} s: ${redis.kind}`);
  if (redis.kind === "js-redis-server" && keptBefore) {
    log(
      "Redis starts empty: js-redis-server keeps nothing. Usage that was not booked before the stop is lost, and the next reconciliation reports it. A redis-server on the PATH keeps its data.",
    );
  }
  const bridge = await startEntry(options, "Upstash bridge", "./upstash-bridge.child.ts", [
    ...["--redis", redis.url, "--token", UPSTASH_TOKEN],
    ...["--port", String(ports.upstash ?? 0)],
  ]);
  started.push(bridge);
  return { url: redis.url, kind: redis.kind, upstashUrl: bridge.value };
}

async function startDatabase(options: BackendsOptions, started: Part[]): Promise<string> {
  const { dir, database, ports = {}, log } = options;
  const seconds = stopwatch();
  const source = ["--pglite", join(dir, "pglite")];
  if (database === "postgres") {
    const postgres = await startPostgres({
      dir: join(dir, "postgres"),
      ...(ports.postgres ? { port: ports.postgres } : {}),
      ...abortOf(options),
    });
    started.push({ name: "Postgres", ...postgres });
    source.splice(0, 2, "--postgres", postgres.url);
  }
  const args = [...source, "--port", String(ports.supabase ?? 0)];
  const supabase = await startEntry(options, "Supabase API", "./supabase.child.ts", args);
  started.push(supabase);
  log(`Database ready in ${seconds()} s: ${DATABASE_NAMES[database]} behind the Supabase API`);
  return supabase.value;
}

const DATABASE_NAMES = { pglite: "PGlite with pgvector", postgres: "Postgres 17" } as const;

async function startStorage(options: BackendsOptions, started: Part[]): Promise<string> {
  const { dir, ports = {}, log } = options;
  const seconds = stopwatch();
  const azurite = await startEntry(options, "Storage", "./azurite.child.ts", [
    ...["--location", join(dir, "azurite")],
    ...["--blob-port", String(ports.blob ?? 0), "--queue-port", String(ports.queue ?? 0)],
  ]);
  started.push(azurite);
  await createQueues(azurite.value, options.queues);
  log(`Storage ready in ${seconds()} s: Azurite with ${options.queues.length} queues`);
  return azurite.value;
}

const startEntry = (
  options: BackendsOptions,
  name: string,
  file: string,
  args: readonly string[],
): Promise<RunningChild> =>
  startNodeChild(name, new URL(file, import.meta.url), args, abortOf(options));

const abortOf = ({ abort }: BackendsOptions) => (abort === undefined ? {} : { abort });

function stopwatch(): () => string {
  const startedAt = performance.now();
  return () => ((performance.now() - startedAt) / 1000).toFixed(1);
}
