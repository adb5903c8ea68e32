import { type ChildProcess, spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { StartError } from "./start-error.ts";

const OUTPUT_CHARACTERS_MAX = 8_000;
/** Generous, because a first start on a busy machine compiles and migrates; a child that hangs is still reported. */
const READY_WITHIN_MS = 60_000;
const STOP_WITHIN_MS = 5_000;
const LAST_WORDS_WITHIN_MS = 500;

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
  /** Ends the child when it aborts before the child is ready. */
  readonly abort?: AbortSignal;
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
 * @throws StartError when it ends, or is not ready in time; the message carries what it printed. The reason of `abort`.
 */
export async function startChild(options: ChildOptions): Promise<RunningChild> {
  const child = spawnChild(options);
  live.add(child);
  const state = watch(child, options);
  try {
    const [pid, value] = await Promise.all([state.pid, readyValue(state, options)]);
    return runningChild(options.name, child, pid, value, state);
  } catch (error) {
    // Nobody waits for the good manners of a child whose start is given up.
    const withinMs = options.abort?.aborted === true ? 0 : STOP_WITHIN_MS;
    await endChild(child, state, state.programPid() ?? child.pid ?? 0, withinMs);
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

const GUARDED_LINE = /^GUARDED (\d+)\n/m;

interface ChildState {
  readonly ended: Promise<string>;
  /** The same, once everything it printed is here as well. */
  readonly lastWords: Promise<string>;
  /** Resolves with the first match in the output so far or to come; never rejects. */
  find(pattern: RegExp): Promise<string>;
  output(): string;
  /** Of the program itself, as soon as it is known. */
  readonly pid: Promise<number>;
  programPid(): number | undefined;
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
  const closed = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const lastWords = ended.then(async (how) => {
    await Promise.race([closed, sleep(LAST_WORDS_WITHIN_MS, undefined, { ref: false })]);
    return how;
  });

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
  const pid = isGuarded ? find(GUARDED_LINE).then(Number) : Promise.resolve(child.pid ?? 0);
  let programPid: number | undefined;
  void pid.then((known) => {
    programPid = known;
  });
  return { ended, lastWords, find, output: () => output, pid, programPid: () => programPid };
}

const READY_LINE = /^READY (.*)\r?\n/m;
const readyPattern = (options: ChildOptions): RegExp => options.ready ?? READY_LINE;

async function readyValue(state: ChildState, options: ChildOptions): Promise<string> {
  const { name, abort, readyWithinMs = READY_WITHIN_MS } = options;
  const done = new AbortController();
  const late = sleep(readyWithinMs, undefined, { signal: done.signal }).then(() => {
    throw startError(name, `was not ready after ${readyWithinMs / 1000} s`, state);
  });
  const early = state.lastWords.then((how) => {
    throw startError(name, `could not start (${how})`, state);
  });
  const aborted = new Promise<never>((_, reject) => {
    const fail = (): void => reject(abort?.reason);
    if (abort?.aborted === true) fail();
    abort?.addEventListener("abort", fail, { signal: done.signal });
  });
  // Whatever loses the race is rejected later, when nobody waits for it any more.
  for (const loser of [late, early, aborted]) loser.catch(() => {});
  try {
    return await Promise.race([state.find(readyPattern(options)), early, late, aborted]);
  } finally {
    done.abort();
  }
}

function startError(name: string, what: string, state: ChildState): StartError {
  const output = state.output().replace(GUARDED_LINE, "").trim();
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

async function endChild(
  child: ChildProcess,
  state: ChildState,
  pid: number,
  withinMs = STOP_WITHIN_MS,
): Promise<void> {
  child.stdin?.end();
  sendSignal(pid, "SIGCONT"); // a stopped process would not notice
  const insist = setTimeout(() => sendSignal(pid, "SIGKILL"), withinMs);
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
