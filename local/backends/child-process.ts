import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { StartError } from "./start-error.ts";

const OUTPUT_CHARACTERS_MAX = 8_000;
/** Generous, because a first start on a busy machine compiles and migrates; a child that hangs is still reported. */
const READY_WITHIN_MS = 60_000;
const STOP_WITHIN_MS = 5_000;
const CLOSE_WITHIN_MS = 4_000;

export interface ChildOptions {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  readonly uid?: number;
  readonly gid?: number;
  /** The child is ready when its output matches; the first group is what `value` says. */
  readonly ready?: RegExp;
  readonly readyWithinMs?: number;
  /** For a program that does not watch its stdin: this signal ends it when we are gone. */
  readonly guardSignal?: "TERM" | "INT";
  /** Receives what the child prints. */
  readonly onOutput?: (text: string) => void;
}

export interface RunningChild {
  readonly name: string;
  /** Process id of the program itself, not of the shell that guards it. */
  readonly pid: number;
  readonly value: string;
  /** Resolves when the process is gone, with how it ended. */
  readonly ended: Promise<string>;
  /** The last of what the child printed, bounded. */
  output(): string;
  signal(signal: NodeJS.Signals): void;
  /** Asks the child to end, and insists after 5 s. Safe to repeat. */
  stop(): Promise<void>;
  /** SIGKILL, as a crash would. */
  kill(): Promise<void>;
}

/**
 * Starts a program that ends when we do, however we end: its stdin is a pipe that the system closes for us.
 *
 * @throws StartError when it ends, or is not ready in time; the message carries what it printed.
 */
export async function startChild(options: ChildOptions): Promise<RunningChild> {
  const child = spawnChild(options);
  live.add(child);
  const state = watch(child, options);
  try {
    const [pid, value] = await Promise.all([state.pid, readyValue(state, options)]);
    return runningChild(options.name, child, pid, value, state);
  } catch (error) {
    await endChild(child, state, child.pid ?? 0);
    throw error;
  }
}

/** Starts one of our own child entries, a TypeScript file that calls `endWithParent`. */
export const startNodeChild = (
  name: string,
  file: URL,
  args: readonly string[],
  options: Partial<ChildOptions> = {},
): Promise<RunningChild> =>
  startChild({ name, command: process.execPath, args: [fileURLToPath(file), ...args], ...options });

/** For the entry of a child process: `close` runs when the parent is gone or asks for the end, then the process ends. */
export function endWithParent(close: () => Promise<unknown> = () => Promise.resolve()): void {
  const end = (): void => {
    setTimeout(() => process.exit(1), CLOSE_WITHIN_MS).unref();
    close().then(
      () => process.exit(0),
      () => process.exit(1),
    );
  };
  process.once("SIGTERM", end);
  if (process.stdin.isTTY) return; // started by hand
  process.stdin.once("end", end);
  process.stdin.once("error", end);
  process.stdin.resume();
}

/** For the entry of a child process: tells the parent that we are ready, and where. */
export function announceReady(value: string): void {
  process.stdout.write(`READY ${value}\n`);
}

/** For the entry of a child process: a start that fails says why in one line. */
export function failStart(error: unknown): never {
  console.error(error instanceof StartError ? error.message : error);
  process.exit(1);
}

// A child that is blocked does not notice that its stdin ended.
const live = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of live) child.kill("SIGTERM");
});

/**
 * Runs a program and ends it when stdin ends. A dead program ends the guard, a dead guard leaves the watcher, which
 * ends the program. SIGCONT, because a stopped process handles no signal.
 */
const GUARD = `sig=$1; shift
exec 3<&0
"$@" 3<&- </dev/null & pid=$!
echo "GUARDED $pid"
( trap "" INT TERM HUP
  while read -r _; do :; done <&3
  kill -s "$sig" "$pid"; kill -s CONT "$pid" ) >/dev/null 2>&1 & watcher=$!
exec 3<&-
trap "" INT TERM HUP
wait "$pid"; code=$?
kill -s KILL "$watcher" 2>/dev/null
exit "$code"`;

/**
 * In a session of its own, so that Ctrl+C reaches only us and we stop things in order. Windows has no shell for the
 * guard; there the program is killed when we exit.
 */
function spawnChild(options: ChildOptions): ChildProcess {
  const isGuarded = options.guardSignal !== undefined && process.platform !== "win32";
  const [command, args] = isGuarded
    ? [
        "/bin/sh",
        ["-c", GUARD, "sh", options.guardSignal ?? "TERM", options.command, ...options.args],
      ]
    : [options.command, options.args];
  return spawn(command, args, {
    stdio: ["pipe", "pipe", "pipe"],
    detached: process.platform !== "win32",
    env: options.env ?? process.env,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.uid === undefined ? {} : { uid: options.uid }),
    ...(options.gid === undefined ? {} : { gid: options.gid }),
  });
}

interface ChildState {
  readonly ended: Promise<string>;
  /** Resolves with the first match in the output so far or to come; never rejects. */
  find(pattern: RegExp): Promise<string>;
  output(): string;
  readonly pid: Promise<number>;
}

function watch(child: ChildProcess, options: ChildOptions): ChildState {
  let output = "";
  const searches = new Set<() => void>();
  const receive = (text: string): void => {
    options.onOutput?.(text);
    output = (output + text).slice(-OUTPUT_CHARACTERS_MAX);
    for (const search of searches) search();
  };
  child.stdout?.setEncoding("utf8").on("data", receive);
  child.stderr?.setEncoding("utf8").on("data", receive);
  child.stdin?.on("error", () => {}); // it ended first; `ended` says how
  const ended = new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("exit", (code, signal) => resolve(signal ?? `exit code ${code}`));
  });
  void ended.then(() => live.delete(child));

  const find = (pattern: RegExp): Promise<string> =>
    new Promise((resolve) => {
      const search = (): void => {
        const match = pattern.exec(output);
        if (match === null) return;
        searches.delete(search);
        resolve(match[1] ?? match[0]);
      };
      searches.add(search);
      search();
    });
  const isGuarded = options.guardSignal !== undefined && process.platform !== "win32";
  const pid = isGuarded ? find(/^GUARDED (\d+)$/m).then(Number) : Promise.resolve(child.pid ?? 0);
  return { ended, find, output: () => output, pid };
}

const READY_LINE = /^READY (.*)$/m;
const readyPattern = (options: ChildOptions): RegExp => options.ready ?? READY_LINE;

async function readyValue(state: ChildState, options: ChildOptions): Promise<string> {
  const limitMs = options.readyWithinMs ?? READY_WITHIN_MS;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const seconds = limitMs / 1000;
    const fail = () => reject(startError(options.name, `was not ready after ${seconds} s`, state));
    timer = setTimeout(fail, limitMs);
  });
  const early = state.ended.then((how) => {
    throw startError(options.name, `could not start (${how})`, state);
  });
  try {
    return await Promise.race([state.find(readyPattern(options)), early, late]);
  } finally {
    clearTimeout(timer);
    early.catch(() => {}); // it ends some day; then nobody waits for this any more
  }
}

function startError(name: string, what: string, state: ChildState): StartError {
  const output = state
    .output()
    .replace(/^GUARDED \d+\n/m, "")
    .trim();
  return new StartError(`${name} ${what}${output === "" ? "" : `:\n${output}`}`);
}

function runningChild(
  name: string,
  child: ChildProcess,
  pid: number,
  value: string,
  state: ChildState,
): RunningChild {
  return {
    name,
    pid,
    value,
    ended: state.ended,
    output: state.output,
    signal: (which) => sendSignal(pid, which),
    stop: () => endChild(child, state, pid),
    kill: async () => {
      sendSignal(pid, "SIGKILL");
      await state.ended;
    },
  };
}

async function endChild(child: ChildProcess, state: ChildState, pid: number): Promise<void> {
  child.stdin?.end();
  const insist = setTimeout(() => sendSignal(pid, "SIGKILL"), STOP_WITHIN_MS);
  await state.ended;
  clearTimeout(insist);
}

function sendSignal(pid: number, signal: NodeJS.Signals): void {
  if (pid === 0) return; // it never started; 0 would mean our whole group
  try {
    process.kill(pid, signal);
  } catch {
    // it is gone already
  }
}
