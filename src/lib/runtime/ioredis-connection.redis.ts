import { isIP } from "node:net";
import { Cluster, Redis, type RedisOptions } from "ioredis";
import { callWithin } from "../kernel/deadline.ts";
import { retry } from "../kernel/retry.ts";
import { clientError, connectionError } from "./classify-error.redis.ts";
import type { RedisClient } from "./ioredis-commands.redis.ts";
import type { RedisAddress } from "./redis-address.redis.ts";

/** A client that was ready a moment ago. */
export interface LiveClient {
  readonly client: RedisClient;
  isAlive(): boolean;
  /** Passes the answer on. Silence for too long while one is due means a dead connection, which is then ended. */
  expectAnswer<T>(answer: Promise<T>): Promise<T>;
}

export interface RedisConnection {
  /** The live client, or a new one after a few attempts to connect. Everybody who waits, waits for the same. */
  ready(): Promise<LiveClient>;
  close(): Promise<void>;
}

const CONNECT_ATTEMPTS = 3;
const RECONNECT_BASE_MS = 50;
const RECONNECT_CAP_MS = 200;
/** A peer that does not answer our goodbye is left without one. */
const GOODBYE_MS = 100;
/** A cluster does not always report its end. */
const DISCONNECT_MS = 500;
/** MOVED, ASK and TRYAGAIN that one call follows. */
const CLUSTER_REDIRECTIONS_MAX = 5;

/**
 * A client that lost its connection is thrown away, and the next call makes a new one. The client's own reconnecting
 * sends commands again, keeps timers of dead sockets, and as a cluster can end in a state that it never leaves.
 */
export function openConnection(address: RedisAddress, timeoutMs: number): RedisConnection {
  const closing = new AbortController();
  const { signal } = closing;
  let live: LiveClient | undefined;
  let opening: Promise<LiveClient> | undefined;
  const open = async () => {
    const backoff = { baseMs: RECONNECT_BASE_MS, capMs: RECONNECT_CAP_MS };
    try {
      if (live !== undefined && live.client.status !== "end") live.client.disconnect();
      const work = () => connectOnce(address, timeoutMs, signal);
      live = await retry(work, { attempts: CONNECT_ATTEMPTS, ...backoff, signal });
      return live;
    } finally {
      opening = undefined;
    }
  };
  return {
    ready: async () => {
      if (live?.isAlive()) return live;
      opening ??= open();
      return opening;
    },
    close: async () => {
      closing.abort(connectionError({ code: "CLOSED" }));
      await opening?.catch(() => {});
      if (live !== undefined) await disconnect(live.client);
    },
  };
}

async function connectOnce(
  address: RedisAddress,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<LiveClient> {
  const client = createClient(address, timeoutMs);
  let reason: unknown;
  // Without a listener the client prints the error, and a cluster throws it.
  client.on("error", (error: Error) => {
    reason = reasonOf(error);
  });
  const timedOut = () => connectionError({ code: "TIMEOUT" });
  try {
    await callWithin({ signal, timeoutMs, timedOut }, () => untilReady(client));
  } catch (error) {
    await disconnect(client);
    throw reason === undefined ? error : clientError(reason);
  }
  let isSilent = false;
  const onSilence = () => {
    isSilent = true;
    client.disconnect();
  };
  return {
    client,
    isAlive: () => client.status === "ready" && !isSilent,
    // A cluster watches each of its nodes instead: the silence of one must not cut off the others.
    expectAnswer: client.isCluster ? (answer) => answer : watchSilence(timeoutMs, onSilence),
  };
}

function untilReady(client: RedisClient): Promise<void> {
  return new Promise((resolve, reject) => {
    client.once("ready", resolve);
    client.once("end", () => reject(connectionError({})));
    client.connect().catch(() => {}); // the events say more
  });
}

/** The error of a whole cluster hides that of its last node. */
function reasonOf(error: Error): Error {
  const { lastNodeError } = error as { lastNodeError?: unknown };
  return lastNodeError instanceof Error ? lastNodeError : error;
}

function createClient(address: RedisAddress, timeoutMs: number): RedisClient {
  const { nodes, isCluster, isTls, db } = address;
  const options = { ...loginOptions(address), connectTimeout: timeoutMs };
  if (!isCluster) return new Redis({ ...options, ...nodes[0], db, enableOfflineQueue: false });
  return new Cluster([...nodes], {
    lazyConnect: true,
    clusterRetryStrategy: () => null,
    maxRedirections: CLUSTER_REDIRECTIONS_MAX,
    retryDelayOnClusterDown: 0, // the caller waits better
    retryDelayOnFailover: 0, // would send commands again whose answer was lost
    redisOptions: { ...options, socketTimeout: timeoutMs },
    // Certificates name hosts, so TLS must not be given the address that the name resolves to.
    ...(isTls ? { dnsLookup: (host, done) => done(null, host) } : {}),
  });
}

function loginOptions({ nodes, username, password, isTls }: RedisAddress): RedisOptions {
  const [{ host }] = nodes;
  return {
    lazyConnect: true,
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(isTls ? { tls: isIP(host) === 0 ? { servername: host } : {} } : {}),
    disableClientInfo: true,
    disconnectTimeout: GOODBYE_MS,
    retryStrategy: () => null,
    autoResendUnfulfilledCommands: false,
    reconnectOnError: (error) => error.message.startsWith("READONLY"), // failover behind the same name
  };
}

/** A frozen or vanished peer keeps its socket open: no error ever comes, only nothing. */
function watchSilence(silenceMs: number, onSilence: () => void): LiveClient["expectAnswer"] {
  let due = 0;
  let timer: NodeJS.Timeout | undefined;
  const onAnswer = () => {
    due--;
    if (due > 0) timer?.refresh();
    else clearTimeout(timer);
  };
  return (answer) => {
    due++;
    if (due === 1) timer = setTimeout(onSilence, silenceMs).unref();
    answer.then(onAnswer, onAnswer);
    return answer;
  };
}

async function disconnect(client: RedisClient): Promise<void> {
  if (client.status === "end") return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, DISCONNECT_MS);
    client.once("end", () => {
      clearTimeout(timer);
      resolve();
    });
    client.disconnect();
  });
}
