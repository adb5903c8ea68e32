import { isIP } from "node:net";
import { Cluster, Redis, type RedisOptions } from "ioredis";
import type { AppError } from "../kernel/errors.ts";
import { clientError, connectionError } from "./classify-error.redis.ts";
import type { RedisClient } from "./ioredis-commands.redis.ts";
import type { RedisAddress } from "./redis-address.redis.ts";

/** A client that connects when it is needed, and is never trusted to be alive. */
export interface RedisConnection {
  readonly client: RedisClient;
  /** Resolves once the client takes commands. Rejects after a few failed attempts; the next call starts over. */
  ready(): Promise<void>;
  /** Passes the answer on. Silence for `timeoutMs` while one is due means a dead connection, which is then replaced. */
  expectAnswer<T>(answer: Promise<T>): Promise<T>;
  close(): Promise<void>;
}

/** Attempts in a row before the waiting calls fail and the client rests until it is needed again. */
const CONNECT_ATTEMPTS = 3;
const RECONNECT_BASE_MS = 50;
/** MOVED, ASK and TRYAGAIN that one call follows. */
const CLUSTER_REDIRECTIONS_MAX = 5;
/** A peer that does not answer our goodbye is left without one. */
const GOODBYE_MS = 100;
/** A cluster that is between two attempts never reports its end. */
const CLOSE_MS = 500;

export function openConnection(address: RedisAddress, timeoutMs: number): RedisConnection {
  let lastError: AppError | undefined;
  let opening: Promise<void> | undefined;
  const client = createClient(address, timeoutMs, (attempt) => {
    const isHopeless = attempt >= CONNECT_ATTEMPTS || lastError?.kind === "permanent";
    return isHopeless ? null : RECONNECT_BASE_MS * 2 ** (attempt - 1);
  });
  // Without a listener the client prints the error, and a cluster throws it.
  client.on("error", (error) => {
    lastError = clientError(reasonOf(error));
  });
  client.on("ready", () => {
    lastError = undefined;
  });
  const open = async () => {
    try {
      await untilReady(client, timeoutMs);
    } catch (error) {
      throw lastError ?? error;
    } finally {
      opening = undefined;
    }
  };
  return {
    client,
    ready: async () => {
      if (client.status === "ready") return;
      opening ??= open();
      await opening;
    },
    // A cluster watches each of its nodes instead: the silence of one must not cut off the others.
    expectAnswer: address.isCluster
      ? (answer) => answer
      : watchSilence(timeoutMs, () => client.disconnect(true)),
    close: () => disconnect(client),
  };
}

/** The error of a whole cluster hides that of its last node. */
function reasonOf(error: Error): Error {
  const { lastNodeError } = error as { lastNodeError?: unknown };
  return lastNodeError instanceof Error ? lastNodeError : error;
}

type RetryDelay = (attempt: number) => number | null;

function createClient(
  address: RedisAddress,
  timeoutMs: number,
  retryDelay: RetryDelay,
): RedisClient {
  const { nodes, isCluster, isTls, db } = address;
  const options = { ...loginOptions(address), connectTimeout: timeoutMs };
  if (!isCluster) {
    const [node] = nodes;
    return new Redis({
      ...options,
      ...node,
      db,
      retryStrategy: retryDelay,
      enableOfflineQueue: false,
    });
  }
  return new Cluster([...nodes], {
    lazyConnect: true,
    clusterRetryStrategy: retryDelay,
    maxRedirections: CLUSTER_REDIRECTIONS_MAX,
    retryDelayOnClusterDown: 0, // the caller waits better
    retryDelayOnFailover: 0, // would send commands again whose answer was lost
    // The client's timer outlives its socket and destroys the next one; a node's client never has a next one.
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
    maxRetriesPerRequest: 0, // a lost connection fails what was in flight …
    autoResendUnfulfilledCommands: false, // … and nothing is sent twice
    reconnectOnError: (error) => error.message.startsWith("READONLY"), // failover behind the same name
  };
}

/** The nudge is for a peer that accepts the connection and then says nothing; a cluster has its own for each node. */
function untilReady(client: RedisClient, timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (outcome: () => void) => {
      clearInterval(nudge);
      client.off("ready", onReady);
      client.off("end", onEnd);
      outcome();
    };
    const onReady = () => settle(resolve);
    const onEnd = () => settle(() => reject(connectionError({})));
    const onSilence = () => client.isCluster || client.disconnect(true);
    const nudge = setInterval(onSilence, timeoutMs).unref();
    client.on("ready", onReady);
    client.on("end", onEnd);
    if (client.status === "wait" || client.status === "end") client.connect().catch(() => {});
  });
}

/** A frozen or vanished peer keeps its socket open: no error ever comes, only nothing. */
function watchSilence(silenceMs: number, onSilence: () => void): RedisConnection["expectAnswer"] {
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
    const timer = setTimeout(resolve, CLOSE_MS);
    client.once("end", () => {
      clearTimeout(timer);
      resolve();
    });
    client.disconnect();
  });
}
