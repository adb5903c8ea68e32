import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { COMPANIES, type Company } from "./companies.ts";

const CALL_WITHIN_MS = 10_000;
const POLL_MS = 1_000;

const Runs = z.object({ runs: z.array(z.object({ status: z.string() })) });
const Total = z.object({ used: z.string(), recorded: z.string().nullable() });

export interface TenantTotal extends Company {
  /** What the counter in Redis says, decimal text. */
  readonly recorded: string;
  /** What the ledger in Postgres says, decimal text. */
  readonly booked: string;
}

/** What an operator does by hand: look at tenants, start a job. */
export interface WorkerClient {
  readTotals(): Promise<TenantTotal[]>;
  startReconciliation(): Promise<void>;
  /** Follows the run until everything recorded is booked, or the time is over; answers the last state. */
  untilBooked(withinMs: number, stop: AbortSignal): Promise<TenantTotal[]>;
}

/** One call of the API; the body is JSON. */
export type Caller = (method: string, path: string, body?: string) => Promise<unknown>;

export const createCaller =
  (url: string, key: string): Caller =>
  async (method, path, body) => {
    const headers = { "x-api-key": key, ...(body ? { "content-type": "application/json" } : {}) };
    const signal = AbortSignal.timeout(CALL_WITHIN_MS);
    const init = { method, headers, signal, ...(body === undefined ? {} : { body }) };
    const response = await fetch(new URL(path, url), init);
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${text}`);
    return text === "" ? undefined : JSON.parse(text);
  };

export function createWorkerClient(call: Caller): WorkerClient {
  const readTotals = (): Promise<TenantTotal[]> =>
    Promise.all(
      COMPANIES.map(async (company) => {
        const path = `/usage/${encodeURIComponent(company.tenant)}`;
        const { used, recorded } = Total.parse(await call("GET", path));
        return { ...company, recorded: recorded ?? "0", booked: used };
      }),
    );
  return {
    readTotals,
    startReconciliation: async () => {
      const body = JSON.stringify({ reason: "the first start shows it" });
      await call("POST", "/cron/jobs/daily_reconciliation/run", body);
    },
    untilBooked: async (withinMs, stop) => {
      const deadline = Date.now() + withinMs;
      for (;;) {
        const [run] = Runs.parse(await call("GET", "/usage-runs?limit=1")).runs;
        const isOver = stop.aborted || Date.now() >= deadline;
        const isDone = run?.status === "succeeded" || run?.status === "failed";
        const totals = isOver || isDone ? await readTotals() : [];
        if (isOver || (isDone && totals.every(isBooked))) return totals;
        await sleep(POLL_MS);
      }
    },
  };
}

export const isBooked = ({ recorded, booked }: TenantTotal): boolean => recorded === booked;
