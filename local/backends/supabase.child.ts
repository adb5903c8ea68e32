import { existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { announceReady, endWithParent, failStart } from "./child-entry.ts";
import { lockFolder } from "./folder-lock.ts";
import { startSupabase } from "./supabase.ts";
import type { SupabaseDatabase } from "./supabase-connection.ts";

/**
 * `--pglite DIR`, `--postgres URL` or neither (in memory); `--port N --migrations DIR`. A process of its own, because
 * PGlite blocks its event loop.
 */
const { values } = parseArgs({
  options: {
    pglite: { type: "string" },
    postgres: { type: "string" },
    port: { type: "string", default: "0" },
    migrations: { type: "string" },
  },
});

const COMPLETE = "worker-service.complete";

let close = (): Promise<unknown> => Promise.resolve();
endWithParent(() => close());
try {
  const supabase = await startSupabase({
    database: await database(),
    port: Number(values.port),
    ...(values.migrations === undefined ? {} : { migrations: values.migrations }),
  });
  close = supabase.close;
  if (values.pglite !== undefined) markComplete(values.pglite);
  announceReady(supabase.url);
} catch (error) {
  failStart(error);
}

async function database(): Promise<SupabaseDatabase> {
  if (values.postgres !== undefined) return { kind: "postgres", url: values.postgres };
  if (values.pglite === undefined) return { kind: "pglite" };
  await lockFolder(values.pglite, "pglite");
  deleteIncomplete(values.pglite);
  return { kind: "pglite", dir: values.pglite };
}

/** PGlite takes a folder whose first start was killed for a database. Nothing was ever served from it: start again. */
function deleteIncomplete(dir: string): void {
  if (existsSync(join(dir, COMPLETE))) return;
  for (const name of readdirSync(dir)) rmSync(join(dir, name), { recursive: true, force: true });
}

function markComplete(dir: string): void {
  writeFileSync(join(dir, COMPLETE), "The first start came to its end.\n");
}
