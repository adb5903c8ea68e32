import { permanent } from "../kernel/errors.ts";

export interface RedisNode {
  readonly host: string;
  readonly port: number;
}

/** Where Redis is and how to log in, read from `REDIS_URL`. */
export interface RedisAddress {
  /** One node, or some nodes of a cluster that name the others. */
  readonly nodes: readonly [RedisNode, ...RedisNode[]];
  readonly isCluster: boolean;
  readonly isTls: boolean;
  readonly username?: string;
  readonly password?: string;
  /** Number of the database; a cluster has only 0. */
  readonly db: number;
}

const DEFAULT_PORT = 6379;

/**
 * Reads `redis[s]://[user[:password]@]host[:port][/db][?cluster=true]`, or several separated by commas, which then are
 * nodes of one cluster. Login and TLS are those of the first.
 *
 * @throws AppError `config_invalid`, without the text, because it holds the password.
 */
export function parseRedisAddress(text: string): RedisAddress {
  const [first, ...others] = text.split(/,\s*(?=rediss?:\/\/)/).map((part) => toUrl(part.trim()));
  if (first === undefined) throw addressInvalid("is empty");
  const db = first.pathname.replace(/^\//, "");
  if (!/^\d{0,3}$/.test(db)) throw addressInvalid("names a database that is not a number");
  const { username, password } = first;
  return {
    nodes: [toNode(first), ...others.map(toNode)],
    isCluster: others.length > 0 || first.searchParams.get("cluster") === "true",
    isTls: first.protocol === "rediss:",
    ...(username === "" ? {} : { username: decodeURIComponent(username) }),
    ...(password === "" ? {} : { password: decodeURIComponent(password) }),
    db: Number(db),
  };
}

function toUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isRedis = url !== undefined && /^rediss?:$/.test(url.protocol) && url.hostname !== "";
  if (!isRedis) throw addressInvalid("is not a redis:// or rediss:// URL");
  return url;
}

const toNode = ({ hostname, port }: URL): RedisNode => ({
  host: hostname.replace(/^\[|\]$/g, ""), // IPv6 in brackets
  port: port === "" ? DEFAULT_PORT : Number(port),
});

const addressInvalid = (reason: string) =>
  permanent("config_invalid", { field: "REDIS_URL", reason });
