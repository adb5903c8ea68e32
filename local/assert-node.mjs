// Runs before every script: npm puts the Node of the optionalDependencies first on the PATH, but an install with
// --omit=optional, or on a platform without such a package, silently falls back to the Node of the machine.
const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 22 || (major === 22 && minor < 18)) {
  console.error(
    `worker-service needs Node 22.18 or later; this is ${process.version} (${process.execPath}).\n` +
      "Run `npm ci` without --omit=optional so that npm installs the project's own Node, or install Node 22.",
  );
  process.exit(1);
}
