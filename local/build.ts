import { relative } from "node:path";
import { fileURLToPath } from "node:url";
import { type BuiltPackage, buildPackage } from "./build-package.ts";
import { runCommand } from "./command.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

await runCommand({
  help: `
npm run build

Bundles src/ into dist/, and stages what is deployed in .package/: host.json, a reduced package.json and dist/.
`,
  options: {},
  run: async () => {
    const built = await buildPackage(ROOT);
    console.log(summary(built));
  },
});

function summary({ dir, files }: BuiltPackage): string {
  const sizeOf = (isCounted: (path: string) => boolean): string => {
    const bytes = files
      .filter(({ path }) => isCounted(path))
      .reduce((sum, file) => sum + file.bytes, 0);
    return `${(bytes / 1024).toFixed(0)} KiB`;
  };
  const isMap = (path: string): boolean => path.endsWith(".map");
  return [
    `${relative(process.cwd(), dir)}/ holds ${files.length} files`,
    `  code          ${sizeOf((path) => !isMap(path))}`,
    `  source maps   ${sizeOf(isMap)}`,
    `  entry         ${sizeOf((path) => path === "dist/main.js")}, the rest loads when it is needed`,
  ].join("\n");
}
