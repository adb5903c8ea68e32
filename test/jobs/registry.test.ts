import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { SETTINGS } from "../../src/config.ts";
import { JOBS } from "../../src/jobs.ts";
import { JOB_TIMEOUT_MAX_MS } from "../../src/lib/jobs/job.ts";
import { assertTimeZone } from "../../src/lib/jobs/plan-slots.ts";
import { parseNcrontab } from "../../src/lib/kernel/ncrontab.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const read = (path: string) => readFileSync(`${ROOT}${path}`, "utf8");

const kebab = (id: string) => id.replaceAll("_", "-");
const camel = (id: string) => id.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
const minutes = (ms: number) => ms / 60_000;

describe("the registry", () => {
  test("and the timer functions are the same jobs", () => {
    const timers = readdirSync(`${ROOT}src/functions`).filter((file) => file.endsWith(".timer.ts"));
    expect(timers.sort()).toEqual(JOBS.map(({ id }) => `${kebab(id)}.timer.ts`).sort());
  });

  test.each(JOBS.map((job) => [job.id, job] as const))(
    "has %s ticked by its own timer, with its own setting",
    (id, job) => {
      const text = read(`src/functions/${kebab(id)}.timer.ts`);
      expect(text).toContain(`app.timer("${camel(id)}"`);
      expect(text).toContain(`scheduleOf("${job.schedule}")`);
      expect(text).toMatch(/runScheduledJob\(services\(\), \w+, run\)/);
      expect(read("src/main.ts")).toContain(`./functions/${kebab(id)}.timer.ts`);
    },
  );

  test.each(JOBS.map((job) => [job.id, job] as const))(
    "gives %s limits that its function can keep",
    (_, job) => {
      expect(job.timeoutMs).toBeLessThanOrEqual(JOB_TIMEOUT_MAX_MS);
      expect(job.attempts ?? 1).toBeGreaterThanOrEqual(1);
      expect(job.latestStartMs).toBeGreaterThan(0);
      expect(() => assertTimeZone(job.timeZone)).not.toThrow();
      const schedule = SETTINGS.shape[job.schedule].parse(undefined);
      expect(() => parseNcrontab(schedule)).not.toThrow();
      expect(job.name.en).not.toBe("");
      expect(job.name.es).not.toBe("");
    },
  );

  test("names no id, schedule or timer twice", () => {
    for (const key of ["id", "schedule"] as const) {
      expect(new Set(JOBS.map((job) => job[key])).size).toBe(JOBS.length);
    }
  });
});

describe("docs/reference/jobs.md", () => {
  const page = read("docs/reference/jobs.md");

  test("has the row of every job as the registry has it, and no other", () => {
    const rows = JOBS.map((job) => {
      const schedule = SETTINGS.shape[job.schedule].parse(undefined);
      const cells = [
        `\`${job.id}\``,
        `${job.name.en} · ${job.name.es}`,
        `\`${job.schedule}\` = \`${schedule}\``,
      ];
      const limits = [
        `${minutes(job.latestStartMs)} min`,
        `${minutes(job.timeoutMs)} min`,
        job.attempts ?? 1,
      ];
      return `| ${[...cells, job.overlap, job.catchUp, ...limits, job.isCritical ? "yes" : "no"].join(" | ")} |`;
    });
    const written = page.split("\n").filter((line) => line.startsWith("| `"));
    expect(written).toEqual(rows);
  });
});
