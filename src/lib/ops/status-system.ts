import { readdir, readFile, statfs } from "node:fs/promises";
import { cpus, freemem, totalmem } from "node:os";
import { type Cgroup, readCgroup } from "./status-cgroup.ts";

const GB = 1024 ** 3;
const MB = 1024 ** 2;
const HUNDRED = 100;

export interface Cpu {
  readonly percent: number;
  readonly count: number;
}
export interface Amount {
  readonly total_gb: number;
  readonly used_gb: number;
  readonly percent: number;
}
export interface Network {
  readonly bytes_sent_mb: number;
  readonly bytes_recv_mb: number;
  readonly packets_sent: number;
  readonly packets_recv: number;
}
export interface ProcessUse {
  readonly memory_mb: number;
  readonly cpu_percent: number;
  readonly threads: number;
  readonly open_files: number;
}

/** What the instance that answers uses. Each part is read on its own, so that one that hangs hurts no other. */
export interface SystemReader {
  cpu(): Promise<Cpu>;
  memory(): Promise<Amount>;
  disk(): Promise<Amount>;
  network(): Promise<Network>;
  process(): Promise<ProcessUse>;
}

/** Processor time is told as a sum: a share needs two readings. */
interface Reading {
  readonly atMs: number;
  readonly usedUs: number;
}

/**
 * Reads limits of the container where there are any: a share of the whole host means nothing to whom a part is given.
 *
 * @param diskPath a folder on the disk that counts: the one for temporary files
 */
export function systemReader(
  diskPath: string,
  group: () => Promise<Cgroup> = readCgroup,
): SystemReader {
  const container = shareSince();
  const own = shareSince({ atMs: 0, usedUs: 0 }); // both sums began with the process
  return {
    cpu: async () => {
      const { cpuLimit, cpuUsedUs } = await group();
      const cores = Math.min(cpuLimit ?? Number.POSITIVE_INFINITY, cpus().length);
      const busy = container(reading(cpuUsedUs ?? hostUsedUs()));
      const share = busy === undefined ? hostShare() : busy / cores;
      const percent = round(Math.min(share, 1) * HUNDRED);
      return { percent, count: Math.max(1, Math.ceil(cores)) };
    },
    memory: async () => {
      const { memoryLimitBytes: limit, memoryUsedBytes } = await group();
      const isLimited = limit !== undefined && limit < totalmem();
      return amount(isLimited ? limit : totalmem(), (isLimited && memoryUsedBytes) || hostUsed());
    },
    disk: async () => {
      const { blocks, bfree, bavail, bsize } = await statfs(diskPath);
      const used = (blocks - bfree) * bsize;
      return amount(used + bavail * bsize, used); // without what is reserved for root
    },
    network: readNetwork,
    process: async () => {
      const { user, system } = process.cpuUsage();
      const share = own(reading(user + system)) ?? 0;
      return {
        memory_mb: round(process.memoryUsage.rss() / MB),
        cpu_percent: round(share * HUNDRED),
        ...(await readOwnProcess()),
      };
    },
  };
}

const reading = (usedUs: number): Reading => ({ atMs: performance.now(), usedUs });

/** Below this the clock ticks of the kernel show more than the work. */
const SHARE_OVER_MS = 100;

/** Cores used since the reading before; the last known answer when that was just now. */
function shareSince(first?: Reading) {
  let before = first;
  let share: number | undefined;
  return (now: Reading): number | undefined => {
    const elapsedMs = now.atMs - (before?.atMs ?? now.atMs);
    if (before !== undefined && elapsedMs < SHARE_OVER_MS) return share;
    if (before !== undefined)
      share = Math.max(0, (now.usedUs - before.usedUs) / (elapsedMs * 1000));
    before = now;
    return share;
  };
}

const amount = (total: number, used: number): Amount => ({
  total_gb: round(total / GB),
  used_gb: round(used / GB),
  percent: total === 0 ? 0 : round(Math.min(used / total, 1) * HUNDRED),
});

const round = (value: number): number => Math.round(value * HUNDRED) / HUNDRED;

const hostUsedUs = (): number =>
  sumOf(cpus().map(({ times: { idle, ...busy } }) => sumOf(Object.values(busy)))) * 1000;

/** Of all cores since the host started: only until a second reading says more. */
function hostShare(): number {
  const times = cpus().map(({ times: of }) => ({ idle: of.idle, all: sumOf(Object.values(of)) }));
  const all = sumOf(times.map((core) => core.all));
  return all === 0 ? 0 : 1 - sumOf(times.map(({ idle }) => idle)) / all;
}

const sumOf = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0);

/** Node's free memory is, on Linux, what the kernel calls available. */
const hostUsed = (): number => totalmem() - freemem();

/** Everything but the loopback, since the instance started. */
async function readNetwork(): Promise<Network> {
  const table = await readFile("/proc/net/dev", "utf8").catch(() => undefined);
  return table === undefined ? readForeignNetwork() : parseNetwork(table);
}

/** Receive: bytes, packets and six more columns; then transmit. */
export function parseNetwork(table: string): Network {
  const rows = table.split("\n").flatMap((line) => {
    const [name, columns] = line.split(":");
    if (columns === undefined || name?.trim() === "lo") return [];
    return [columns.trim().split(/\s+/).map(Number)];
  });
  const sum = (column: number) => sumOf(rows.map((row) => row[column] ?? 0));
  return {
    bytes_sent_mb: round(sum(8) / MB),
    bytes_recv_mb: round(sum(0) / MB),
    packets_sent: sum(9),
    packets_recv: sum(1),
  };
}

/** Elsewhere than on Linux nobody counts packets for us. */
async function readForeignNetwork(): Promise<Network> {
  const { networkStats } = await import("systeminformation");
  const stats = await networkStats();
  const sum = (of: (row: (typeof stats)[number]) => number) => round(sumOf(stats.map(of)) / MB);
  return {
    bytes_sent_mb: sum((row) => row.tx_bytes),
    bytes_recv_mb: sum((row) => row.rx_bytes),
    packets_sent: 0,
    packets_recv: 0,
  };
}

/** Elsewhere than on Linux the threads are not told: the one that answers. */
async function readOwnProcess(): Promise<Pick<ProcessUse, "threads" | "open_files">> {
  const [status = "", files = []] = await Promise.all([
    readFile("/proc/self/status", "utf8").catch(() => undefined),
    readdir("/proc/self/fd").catch(() => undefined),
  ]);
  return {
    threads: Number(/^Threads:\s*(\d+)$/m.exec(status)?.[1] ?? 1),
    open_files: files.length,
  };
}
