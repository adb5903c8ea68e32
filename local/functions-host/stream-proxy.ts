import { request as httpRequest, type IncomingMessage, type ServerResponse } from "node:http";
import { Server } from "node:net";
import { pipeline } from "node:stream";

/**
 * Runs `start`, in which the library may open its server for streamed requests, and remembers that server: otherwise
 * nobody could close it, and it would keep the process alive.
 */
export async function watchServers<T>(
  start: () => Promise<T>,
): Promise<{ result: T; close(): void }> {
  const servers = new Set<Server>();
  const { listen } = Server.prototype;
  Server.prototype.listen = function watched(this: Server, ...args: unknown[]) {
    servers.add(this);
    return Reflect.apply(listen, this, args) as Server;
  };
  try {
    const result = await start();
    return { result, close: () => closeAll(servers) };
  } finally {
    Server.prototype.listen = listen;
  }
}

function closeAll(servers: ReadonlySet<Server>): void {
  for (const server of servers) {
    server.close();
    if ("closeAllConnections" in server) (server.closeAllConnections as () => void)();
  }
}

export interface Forwarded {
  /** Resolves when the answer is through or the caller is gone, rejects when there was no answer. */
  readonly done: Promise<void>;
  /** Ends it with an error, unless the answer has begun. */
  abort(): void;
}

/** Sends a request on to the library's own server, which finds the invocation by its id. */
export function forward(
  target: string,
  request: IncomingMessage,
  response: ServerResponse,
  { invocationId, url }: { readonly invocationId: string; readonly url: URL },
): Forwarded {
  const upstream = httpRequest(new URL(url.pathname + url.search, target), {
    method: request.method ?? "GET",
    headers: {
      ...request.headers,
      "x-ms-invocation-id": invocationId,
      "x-forwarded-host": url.host,
      "x-forwarded-proto": "http",
    },
  });
  const done = new Promise<void>((resolve, reject) => {
    upstream.once("error", reject);
    upstream.once("response", (answer) => {
      const { connection: _connection, "keep-alive": _keepAlive, ...headers } = answer.headers;
      response.writeHead(answer.statusCode ?? 500, headers);
      answer.once("error", () => response.destroy());
      answer.pipe(response);
    });
    response.once("close", resolve);
  });
  pipeline(request, upstream, () => {}); // an error is an error of `upstream` too
  return {
    done,
    abort: () => {
      if (!response.headersSent) upstream.destroy(new Error("The function gave no response."));
    },
  };
}
