import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";

/** What the container may use and does; undefined = not limited, or not told. */
export interface Cgroup {
  readonly memoryLimitBytes?: number | undefined;
  /** Without the file cache, which the kernel gives back when it is needed. */
  readonly memoryUsedBytes?: number | undefined;
  /** Cores; may be a fraction. */
  readonly cpuLimit?: number | undefined;
  /** Processor time since the container began, microseconds. */
  readonly cpuUsedUs?: number | undefined;
}

/** Deeper than any container platform nests. */
const LEVELS_MAX = 16;
/** Version 1 says "no limit" with a number near 2^63. */
const UNLIMITED_BYTES = 2 ** 50;

/**
 * The control group of this process, version 2 or 1. Outside of Linux, and where nothing is limited, nothing is known.
 * Never throws: what cannot be read is undefined.
 */
export async function readCgroup(root = "/"): Promise<Cgroup> {
  const lines = (await readText(join(root, "proc/self/cgroup")))?.split("\n") ?? [];
  const unified = lines.find((line) => line.startsWith("0::"))?.slice(3);
  const mount = join(root, "sys/fs/cgroup");
  const isVersion2 = (await readText(join(mount, "cgroup.controllers"))) !== undefined;
  return isVersion2 ? readVersion2(mount, unified ?? "/") : readVersion1(mount, lines);
}

/** The tightest limit from the group of the process up to the root holds. */
async function readVersion2(mount: string, path: string): Promise<Cgroup> {
  const folders = await existing(ancestors(mount, path), "cgroup.procs");
  const limits = await Promise.all(folders.map(limitsOf2));
  const own = folders[0] ?? mount;
  const [current, memoryStat, cpuStat] = await Promise.all([
    readNumber(join(own, "memory.current")),
    readText(join(own, "memory.stat")),
    readText(join(own, "cpu.stat")),
  ]);
  return {
    memoryLimitBytes: least(limits.map(({ memory }) => memory)),
    memoryUsedBytes: withoutCache(current, fieldOf(memoryStat, "inactive_file")),
    cpuLimit: least(limits.map(({ cpu }) => cpu)),
    cpuUsedUs: fieldOf(cpuStat, "usage_usec"),
  };
}

async function limitsOf2(folder: string) {
  const [memory, cpu] = await Promise.all([
    readNumber(join(folder, "memory.max")),
    readText(join(folder, "cpu.max")),
  ]);
  const [quota, period] = cpu?.split(" ") ?? [];
  return { memory, cpu: ratio(toNumber(quota), toNumber(period)) };
}

async function readVersion1(mount: string, lines: readonly string[]): Promise<Cgroup> {
  const [memory, cpu, account] = await Promise.all([
    folderOf1(mount, lines, "memory", "memory.limit_in_bytes"),
    folderOf1(mount, lines, "cpu", "cpu.cfs_quota_us"),
    folderOf1(mount, lines, "cpuacct", "cpuacct.usage"),
  ]);
  const [limit, used, stat, quota, period, nanoseconds] = await Promise.all([
    readNumber(join(memory, "memory.limit_in_bytes")),
    readNumber(join(memory, "memory.usage_in_bytes")),
    readText(join(memory, "memory.stat")),
    readNumber(join(cpu, "cpu.cfs_quota_us")),
    readNumber(join(cpu, "cpu.cfs_period_us")),
    readNumber(join(account, "cpuacct.usage")),
  ]);
  return {
    memoryLimitBytes: limit !== undefined && limit < UNLIMITED_BYTES ? limit : undefined,
    memoryUsedBytes: withoutCache(used, fieldOf(stat, "total_inactive_file")),
    cpuLimit: ratio(quota, period),
    cpuUsedUs: nanoseconds === undefined ? undefined : nanoseconds / 1000,
  };
}

/** In a container the controller's own folder is that of the container, and the path of the host leads nowhere. */
async function folderOf1(
  mount: string,
  lines: readonly string[],
  controller: string,
  file: string,
): Promise<string> {
  const line = lines.find((it) => it.split(":")[1]?.split(",").includes(controller));
  const path = line?.split(":").slice(2).join(":") ?? "/";
  const base = join(mount, controller);
  const [folder = base] = await existing([join(base, path), base], file);
  return folder;
}

function ancestors(mount: string, path: string): string[] {
  const folders: string[] = [];
  for (let at = join("/", path); folders.length < LEVELS_MAX; at = dirname(at)) {
    folders.push(join(mount, at));
    if (at === "/") break;
  }
  return folders;
}

async function existing(folders: readonly string[], file: string): Promise<string[]> {
  const texts = await Promise.all(folders.map((folder) => readText(join(folder, file))));
  return folders.filter((_, i) => texts[i] !== undefined);
}

const readText = (path: string): Promise<string | undefined> =>
  readFile(path, "utf8").catch(() => undefined);

const readNumber = async (path: string): Promise<number | undefined> =>
  toNumber((await readText(path))?.trim());

/** `max` and `-1` are no limit. */
const toNumber = (text: string | undefined): number | undefined =>
  text !== undefined && /^\d+$/.test(text.trim()) ? Number(text) : undefined;

const fieldOf = (text: string | undefined, name: string): number | undefined =>
  toNumber(new RegExp(`^${name} (\\d+)$`, "m").exec(text ?? "")?.[1]);

const ratio = (quota: number | undefined, period: number | undefined): number | undefined =>
  quota === undefined || period === undefined || period === 0 ? undefined : quota / period;

const least = (values: readonly (number | undefined)[]): number | undefined => {
  const known = values.filter((value) => value !== undefined);
  return known.length === 0 ? undefined : Math.min(...known);
};

const withoutCache = (used: number | undefined, cache = 0): number | undefined =>
  used === undefined ? undefined : Math.max(used - cache, 0);
