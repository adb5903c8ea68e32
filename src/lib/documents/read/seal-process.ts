import { Socket } from "node:net";
import { Worker } from "node:worker_threads";

/** How often the child looks whether its parent is still there. */
const WATCH_MS = 500;

/**
 * Takes from a reading process what no parser needs: connections, and a life longer than its parent's. Writing files and
 * starting processes is forbidden by the flags it was started with.
 */
export function sealProcess(): void {
  Socket.prototype.connect = refuseConnection;
  Reflect.deleteProperty(globalThis, "fetch");
  Reflect.deleteProperty(globalThis, "WebSocket");
  watchParent();
}

function refuseConnection(): never {
  throw new Error("a reading process opens no connection");
}

/**
 * A parser in an endless loop never hears that its parent was killed, so that a thread listens for it. The thread
 * sleeps on memory that nobody changes.
 */
const WATCH = `
const { workerData } = require("node:worker_threads");
const cell = new Int32Array(new SharedArrayBuffer(4));
while (process.ppid === workerData.parent) Atomics.wait(cell, 0, 0, workerData.watchMs);
process.kill(process.pid, "SIGKILL");
`;

function watchParent(): void {
  const workerData = { parent: process.ppid, watchMs: WATCH_MS };
  new Worker(WATCH, { eval: true, workerData, stdout: true, stderr: true }).unref();
}
