// Prints the record script for clients in other languages. `--sha` prints its SHA-1 instead.
import { parseArgs } from "node:util";
import { RECORD_USAGE } from "../src/lib/usage/record-usage.lua.ts";

const { values } = parseArgs({
  options: { sha: { type: "boolean", default: false }, help: { type: "boolean", default: false } },
});
if (values.help) {
  console.log(
    "npm run --silent usage-script [-- --sha]   the Lua text that records one use, or its SHA-1",
  );
} else {
  process.stdout.write(values.sha ? `${RECORD_USAGE.sha1}\n` : RECORD_USAGE.source);
}
