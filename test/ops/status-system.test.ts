import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { type Cgroup, readCgroup } from "../../src/lib/ops/status-cgroup.ts";
import { parseNetwork, systemReader } from "../../src/lib/ops/status-system.ts";

const MIB = 1024 ** 2;
const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true });
});

/** A file system as a kernel would show it. */
function openRoot(files: Record<string, string>): string {
  const root = mkdtempSync(join(tmpdir(), "worker-cgroup-"));
  folders.push(root);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), `${text}\n`);
  }
  return root;
}

const V2 = "sys/fs/cgroup";
const V1 = { memory: `${V2}/memory`, cpu: `${V2}/cpu,cpuacct` };

describe("a control group", () => {
  test("of version 2 tells its limits and what it uses, without the file cache", async () => {
    const root = openRoot({
      "proc/self/cgroup": "0::/",
      [`${V2}/cgroup.controllers`]: "cpu memory",
      [`${V2}/cgroup.procs`]: "1",
      [`${V2}/memory.max`]: String(2048 * MIB),
      [`${V2}/memory.current`]: String(900 * MIB),
      [`${V2}/memory.stat`]: `anon 5\ninactive_file ${400 * MIB}\nactive_file 7`,
      [`${V2}/cpu.max`]: "150000 100000",
      [`${V2}/cpu.stat`]: "usage_usec 123456\nuser_usec 1",
    });
    expect(await readCgroup(root)).toEqual({
      memoryLimitBytes: 2048 * MIB,
      memoryUsedBytes: 500 * MIB,
      cpuLimit: 1.5,
      cpuUsedUs: 123_456,
    });
  });

  test("of version 2 is limited by the tightest group above it", async () => {
    const root = openRoot({
      "proc/self/cgroup": "0::/pod/app",
      [`${V2}/cgroup.controllers`]: "cpu memory",
      [`${V2}/cgroup.procs`]: "1",
      [`${V2}/pod/cgroup.procs`]: "",
      [`${V2}/pod/memory.max`]: String(512 * MIB),
      [`${V2}/pod/cpu.max`]: "max 100000",
      [`${V2}/pod/app/cgroup.procs`]: "7",
      [`${V2}/pod/app/memory.max`]: "max",
      [`${V2}/pod/app/memory.current`]: String(MIB),
      [`${V2}/pod/app/cpu.max`]: "200000 100000",
    });
    expect(await readCgroup(root)).toEqual({
      memoryLimitBytes: 512 * MIB,
      memoryUsedBytes: MIB,
      cpuLimit: 2,
      cpuUsedUs: undefined,
    });
  });

  test.each([
    ["as the container sees it", "", "/docker/abc"],
    ["as the host sees it", "/docker/abc", "/docker/abc"],
  ])("of version 1 tells the same, %s", async (_, folder, path) => {
    const root = openRoot({
      "proc/self/cgroup": `5:memory:${path}\n4:cpu,cpuacct:${path}`,
      [`${V1.memory}${folder}/memory.limit_in_bytes`]: String(1024 * MIB),
      [`${V1.memory}${folder}/memory.usage_in_bytes`]: String(300 * MIB),
      [`${V1.memory}${folder}/memory.stat`]: `total_inactive_file ${100 * MIB}`,
      [`${V2}/cpu${folder}/cpu.cfs_quota_us`]: "50000",
      [`${V2}/cpu${folder}/cpu.cfs_period_us`]: "100000",
      [`${V2}/cpuacct${folder}/cpuacct.usage`]: "5000000",
    });
    expect(await readCgroup(root)).toEqual({
      memoryLimitBytes: 1024 * MIB,
      memoryUsedBytes: 200 * MIB,
      cpuLimit: 0.5,
      cpuUsedUs: 5000,
    });
  });

  test("without limits knows none, in either version", async () => {
    const none = { memoryLimitBytes: undefined, cpuLimit: undefined };
    const second = openRoot({
      "proc/self/cgroup": "0::/",
      [`${V2}/cgroup.controllers`]: "cpu",
      [`${V2}/cgroup.procs`]: "1",
      [`${V2}/memory.max`]: "max",
      [`${V2}/cpu.max`]: "max 100000",
    });
    expect(await readCgroup(second)).toMatchObject(none);
    const first = openRoot({
      "proc/self/cgroup": "5:memory:/\n4:cpu,cpuacct:/",
      [`${V1.memory}/memory.limit_in_bytes`]: "9223372036854771712",
      [`${V2}/cpu/cpu.cfs_quota_us`]: "-1",
      [`${V2}/cpu/cpu.cfs_period_us`]: "100000",
    });
    expect(await readCgroup(first)).toMatchObject(none);
  });

  test.each([[{}], [{ "proc/self/cgroup": "nonsense", [`${V2}/cgroup.controllers`]: "" }]])(
    "that cannot be read is no failure: %j",
    async (files) => {
      const group = await readCgroup(openRoot(files as Record<string, string>));
      expect(Object.values(group).filter((value) => value !== undefined)).toEqual([]);
    },
  );
});

const reader = (group: Cgroup) => systemReader(tmpdir(), () => Promise.resolve(group));

describe("what the instance uses", () => {
  test("is told by the limits of its container", async () => {
    const limited = reader({
      memoryLimitBytes: 512 * MIB,
      memoryUsedBytes: 128 * MIB,
      cpuLimit: 0.5,
    });
    expect(await limited.memory()).toEqual({ total_gb: 0.5, used_gb: 0.13, percent: 25 });
    expect((await limited.cpu()).count).toBe(1);
  });

  test("is told by the host where nothing is limited", async () => {
    const { total_gb } = await reader({}).memory();
    expect(total_gb).toBeCloseTo(totalmem() / 1024 ** 3, 1);
    expect((await reader({}).cpu()).count).toBe(cpus().length);
  });

  test("is a share of the processor between two readings", async () => {
    let usedUs = 0;
    const own = systemReader(tmpdir(), async () => ({ cpuLimit: 1, cpuUsedUs: usedUs }));
    await own.cpu();
    const until = performance.now() + 120;
    while (performance.now() < until); // the clock of the kernel cannot be set
    usedUs = 60_000;
    const { percent } = await own.cpu();
    expect(percent).toBeGreaterThan(20);
    expect(percent).toBeLessThanOrEqual(50);
    usedUs = 10_000_000;
    expect((await own.cpu()).percent).toBe(percent); // too soon for another reading
  });

  test("of disk, network and process is a number each, of this machine", async () => {
    const own = reader({});
    const [disk, network, ours] = await Promise.all([own.disk(), own.network(), own.process()]);
    for (const part of [disk, network, ours])
      for (const value of Object.values(part)) expect(value).toBeGreaterThanOrEqual(0);
    expect(disk.percent).toBeLessThanOrEqual(100);
    expect(ours.threads).toBeGreaterThanOrEqual(1);
    expect(ours.memory_mb).toBeGreaterThan(10);
  });
});

test("the network is everything but the loopback", () => {
  const table = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 999 9 0 0 0 0 0 0 999 9 0 0 0 0 0 0
  eth0: 2097152 20 0 0 0 0 0 0 1048576 10 0 0 0 0 0 0
  eth1:1048576 5 0 0 0 0 0 0 524288 4 0 0 0 0 0 0
`;
  expect(parseNetwork(table)).toEqual({
    bytes_recv_mb: 3,
    bytes_sent_mb: 1.5,
    packets_recv: 25,
    packets_sent: 14,
  });
});
