import { createHash, randomBytes } from "node:crypto";
import { parseApiKeys, ROLES } from "../src/lib/kernel/api-keys.ts";
import { StartError } from "./backends/start-error.ts";
import { parseChoice, runCommand } from "./command.ts";

const KEY_BYTES = 32;

await runCommand({
  help: `
npm run api-key -- --name NAME --role ROLE [--scopes SCOPE+SCOPE]

Makes a key for the management API. The key is printed once and stored nowhere; the service knows its hash only.

  --name NAME   who uses it, for the logs: lower-case letters, digits and hyphens, at most 40
  --role ROLE   ${ROLES.join(", ")}
  --scopes ...  parts of the API it is for, by the first segment of their paths: usage+cron; without, all
`,
  options: { name: { type: "string" }, role: { type: "string" }, scopes: { type: "string" } },
  run: async ({ name, role, scopes }) => {
    if (name === undefined || role === undefined) {
      throw new StartError("--name and --role are needed; --help explains them.");
    }
    const key = `wsk_${randomBytes(KEY_BYTES).toString("base64url")}`;
    const known = `${name}:${parseChoice(role, ROLES, "--role")}:sha256:${sha256(key)}`;
    const entry = scopes === undefined ? known : `${known}:${scopes}`;
    if (parseApiKeys(entry).kind === "invalid") {
      throw new StartError(
        `--name must be lower-case letters, digits and hyphens, at most 40, and --scopes such as usage+cron; they are "${name}" and "${scopes ?? ""}".`,
      );
    }
    console.log(`Key, shown only now; send it as the header x-api-key:\n\n  ${key}\n`);
    console.log(`Entry for the setting API_KEYS; separate several with commas:\n\n  ${entry}`);
  },
});

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
