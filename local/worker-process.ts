import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type RunningChild, startNodeChild } from "./backends/child-process.ts";

const HOST_ENTRY = new URL("./functions-host/worker.ts", import.meta.url);
const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** A person waits for what a queue does; the host by itself would poll less and less often, up to once a minute. */
const POLL_ARGS = ["--max-poll-ms", "1000"];
const FIRST_DELAY_MS = 500;
const DELAY_MAX_MS = 30_000;
/** A worker that ran this long was fine: its next crash counts as the first. */
const HEALTHY_MS = 60_000;
/** In a row; then something is wrong that a restart does not repair. */
const CRASHES_MAX = 10;

export interface WorkerOptions {
  /** Settings of the service and everything else in its environment. */
  readonly env: NodeJS.ProcessEnv;
  /** 0: any free port. The port of the first start is kept for all others. */
  readonly port: number;
  /** File that remembers when each timer ran. */
  readonly stateFile: string;
  readonly onOutput: (text: string) => void;
  readonly log: (line: string) => void;
  /** What to do when the worker cannot start again: wait for a change of the sources, or try again. */
  readonly whenBroken: "retry" | "wait";
  readonly abort: AbortSignal;
}

/** The Functions host with our app, in a process that is started again whenever it ends. */
export interface Worker {
  readonly url: string;
  /** Ends it and starts it with the sources as they are now. */
  restart(): Promise<void>;
  /** Resolves with a sentence when it crashed too often. */
  readonly failed: Promise<string>;
  pid(): number;
  stop(): Promise<void>;
}

/** @throws StartError when the first start fails: a setting or a source is wrong, and a restart would not help. */
export async function startWorker(options: WorkerOptions): Promise<Worker> {
  const first = await spawnWorker(options, options.port);
  const url = first.value;
  const supervisor = new Supervisor(options, first, Number(new URL(url).port));
  return {
    url,
    restart: () => supervisor.restart(),
    failed: supervisor.failed,
    pid: () => supervisor.pid(),
    stop: () => supervisor.stop(),
  };
}

/** What it prints before it is ready is part of the error when it fails, and else of no interest. */
async function spawnWorker(options: WorkerOptions, port: number): Promise<RunningChild> {
  let isReady = false;
  const args = ["--dir", ROOT, "--entry", "src/main.ts", "--port", String(port), ...POLL_ARGS];
  const child = await startNodeChild(
    "The Functions host",
    HOST_ENTRY,
    [...args, "--state", options.stateFile],
    {
      env: options.env,
      abort: options.abort,
      onOutput: (text) => (isReady ? options.onOutput(text) : undefined),
    },
  );
  isReady = true;
  return child;
}

/** Holds the process; one start or stop at a time. */
class Supervisor {
  readonly #options: WorkerOptions;
  readonly #port: number;
  #child: RunningChild | undefined;
  #turn: Promise<void> = Promise.resolve();
  #isStopping = false;
  #crashes = 0;
  #giveUp: (reason: string) => void = () => {};
  readonly failed = new Promise<string>((resolve) => {
    this.#giveUp = resolve;
  });

  constructor(options: WorkerOptions, first: RunningChild, port: number) {
    this.#options = options;
    this.#port = port;
    this.#watch(first);
  }

  pid(): number {
    return this.#child?.pid ?? 0;
  }

  restart(): Promise<void> {
    this.#crashes = 0;
    return this.#inTurn(async () => {
      await this.#end();
      await this.#start();
    });
  }

  stop(): Promise<void> {
    this.#isStopping = true;
    return this.#inTurn(() => this.#end());
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    this.#turn = this.#turn.then(work);
    return this.#turn;
  }

  async #end(): Promise<void> {
    const child = this.#child;
    this.#child = undefined; // so that its end is not taken for a crash
    await child?.stop();
  }

  async #start(): Promise<void> {
    if (this.#isStopping || this.#child !== undefined) return;
    try {
      this.#watch(await spawnWorker(this.#options, this.#port));
      this.#options.log("The worker runs again.");
    } catch (error) {
      if (this.#isStopping || this.#options.abort.aborted) return;
      this.#options.log(error instanceof Error ? error.message : String(error));
      if (this.#options.whenBroken === "retry") void this.#recover();
      else this.#options.log("Waiting for a change of the sources.");
    }
  }

  #watch(child: RunningChild): void {
    const startedAt = performance.now();
    this.#child = child;
    void child.ended.then((how) => {
      if (this.#child !== child) return;
      this.#child = undefined;
      if (performance.now() - startedAt >= HEALTHY_MS) this.#crashes = 0;
      this.#options.log(`The worker ended (${how}); the backends go on.`);
      return this.#recover();
    });
  }

  async #recover(): Promise<void> {
    this.#crashes += 1;
    if (this.#crashes > CRASHES_MAX) {
      this.#giveUp(`The worker ended ${CRASHES_MAX} times in a row. Its output is above.`);
      return;
    }
    const delayMs = Math.min(FIRST_DELAY_MS * 2 ** (this.#crashes - 1), DELAY_MAX_MS);
    this.#options.log(`Starting it again in ${delayMs / 1000} s.`);
    await sleep(delayMs, undefined, { ref: false });
    await this.#inTurn(() => this.#start());
  }
}
