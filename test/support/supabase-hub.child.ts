import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { parseArgs } from "node:util";
import { announceReady, endWithParent } from "../../local/backends/child-entry.ts";
import type { SupabaseApi } from "../../local/backends/supabase.ts";

/**
 * `--postgres URL`: the Supabase API of every database of that server, at `/<database>/rest/v1`. One process, because the
 * library behind it takes longer to load than a database to be cloned. `DELETE /<database>` closes an API.
 */
const { values } = parseArgs({ options: { postgres: { type: "string", default: "" } } });
const HEADER_BYTES_MAX = 256 * 1024;

const apis = new Map<string, Promise<SupabaseApi>>();
endWithParent();
console.error = () => {}; // it prints every database error, and tests cause them on purpose

const server = createServer({ maxHeaderSize: HEADER_BYTES_MAX }, (request, response) => {
  serve(request, response).catch((error: unknown) => response.writeHead(500).end(String(error)));
});
server.keepAliveTimeout = 65_000;
server.listen(0, "127.0.0.1");
await once(server, "listening");
announceReady(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
await import("../../local/backends/supabase.ts"); // while nobody waits for it

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const [, name = "", ...rest] = (request.url ?? "").split("/");
  if (request.method === "DELETE" && rest.length === 0) {
    const api = apis.get(name);
    apis.delete(name);
    await (await api)?.close();
    response.end();
    return;
  }
  request.url = `/${rest.join("/")}`;
  const api = await openApi(name);
  await api.listener(request, response);
}

function openApi(name: string): Promise<SupabaseApi> {
  const known = apis.get(name);
  if (known !== undefined) return known;
  const url = new URL(name, values.postgres).href;
  const opening = import("../../local/backends/supabase.ts").then(({ openSupabaseApi }) =>
    openSupabaseApi({ database: { kind: "postgres", url }, migrate: false }),
  );
  apis.set(name, opening);
  opening.catch(() => apis.delete(name));
  return opening;
}
