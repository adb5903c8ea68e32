import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";

const POLL_MS = 500;

/**
 * Calls back once when whoever started us is gone. npm passes SIGTERM on to its shell only, and SIGKILL to nobody: we
 * would live on with a terminal nobody has. Watches our parent, and npm when it stands behind the parent.
 */
export function onAbandoned(callback: () => void): void {
  const parent = process.ppid;
  const npm = process.env["npm_lifecycle_event"] === undefined ? undefined : npmBehind(parent);
  const timer = setInterval(() => {
    const isThere = process.ppid === parent && (npm === undefined || isAlive(npm));
    if (isThere) return;
    clearInterval(timer);
    callback();
  }, POLL_MS);
  timer.unref();
}

function npmBehind(pid: number): number | undefined {
  const grandparent = parentOf(pid);
  return grandparent !== undefined && /\bnpm\b/.test(commandOf(grandparent))
    ? grandparent
    : undefined;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function parentOf(pid: number): number | undefined {
  const parent = Number(readProcess(pid, "ppid"));
  return parent > 1 ? parent : undefined;
}

const commandOf = (pid: number): string => readProcess(pid, "args");

/** From /proc where there is one, else from `ps`; empty when neither tells. */
function readProcess(pid: number, what: "ppid" | "args"): string {
  try {
    if (process.platform === "win32") return "";
    if (process.platform !== "linux") {
      return execFileSync("ps", ["-o", `${what}=`, "-p", String(pid)], { encoding: "utf8" }).trim();
    }
    if (what === "args") return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // "pid (name) state ppid …"; the name may hold anything
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1] ?? "";
  } catch {
    return "";
  }
}
