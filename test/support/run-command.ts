import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { stripVTControlCharacters } from "node:util";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

export interface CommandRun {
  readonly child: ChildProcess;
  readonly pid: number;
  stdout(): string;
  stderr(): string;
  /** Exit code, or the signal that ended it. */
  readonly ended: Promise<number | string>;
  /** Resolves when its output matches, and rejects when it ends before. */
  until(pattern: RegExp): Promise<RegExpExecArray>;
}

/** Runs an entry under `local/` as npm would, without npm. */
export function runLocalCommand(
  entry: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): CommandRun {
  const child = spawn(process.execPath, [entry, ...args], {
    cwd: ROOT,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const output = { stdout: "", stderr: "" };
  const listeners = new Set<() => void>();
  for (const stream of ["stdout", "stderr"] as const) {
    child[stream].setEncoding("utf8").on("data", (text: string) => {
      output[stream] += stripVTControlCharacters(text);
      for (const listener of listeners) listener();
    });
  }
  const ended = new Promise<number | string>((resolve) => {
    child.once("close", (code, signal) => resolve(code ?? signal ?? "unknown"));
  });
  const all = (): string => `${output.stdout}\n${output.stderr}`;
  return {
    child,
    pid: child.pid ?? 0,
    stdout: () => output.stdout,
    stderr: () => output.stderr,
    ended,
    until: (pattern) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const match = pattern.exec(all());
          if (match !== null) resolve(match);
        };
        listeners.add(look);
        look();
        void ended.then((how) => reject(new Error(`${entry} ended (${how}):\n${all()}`)));
      }),
  };
}
