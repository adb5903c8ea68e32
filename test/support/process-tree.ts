import { execFileSync } from "node:child_process";

export interface ProcessRow {
  readonly pid: number;
  readonly parent: number;
  /** Resident set, kilobytes. */
  readonly rssKb: number;
  readonly cpuSeconds: number;
  readonly isZombie: boolean;
  readonly command: string;
}

const COLUMNS = "pid=,ppid=,rss=,time=,stat=,args=";

/** Every process of the machine, as `ps` sees it. */
export function listProcesses(): ProcessRow[] {
  const text = execFileSync("ps", ["-A", "-o", COLUMNS], {
    encoding: "utf8",
  });
  return text
    .split("\n")
    .filter((line) => line.trim() !== "")
    .map((line) => {
      const [pid, parent, rss, time = "", stat = "", ...command] = line.trim().split(/\s+/);
      return {
        pid: Number(pid),
        parent: Number(parent),
        rssKb: Number(rss),
        cpuSeconds: parseTime(time),
        isZombie: stat.startsWith("Z"),
        command: command.join(" "),
      };
    });
}

/** A process and everything that descends from it. */
export function processTree(root: number): ProcessRow[] {
  const all = listProcesses();
  const found = all.filter(({ pid }) => pid === root);
  for (const parent of found) {
    found.push(...all.filter((row) => row.parent === parent.pid));
  }
  return found;
}

/** Those of the processes that still run. A zombie does not: it only waits for somebody to ask how it ended. */
export function stillRunning(pids: readonly number[]): ProcessRow[] {
  return listProcesses().filter(({ pid, isZombie }) => pids.includes(pid) && !isZombie);
}

/** `[[days-]hours:]minutes:seconds` */
const parseTime = (text: string): number =>
  text
    .replace("-", ":")
    .split(":")
    .reverse()
    .reduce((sum, part, index) => sum + Number(part) * ([1, 60, 3600, 86_400][index] ?? 0), 0);
