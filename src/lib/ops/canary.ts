import type { Run } from "../kernel/run.ts";

export interface CanaryArrivals {
  /** Idempotent. @returns whether there is such a canary. */
  arrive(id: string, signal: AbortSignal): Promise<boolean>;
}

export interface CanaryDeps {
  readonly canaryArrivals: CanaryArrivals;
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/**
 * The message does nothing but come back: what it says is when its consumer last took anything. A person's message
 * cannot be one by accident: it has nothing but the two fields.
 */
export const canaryMessage = (id: string, sentAt: number): object => ({
  canary: id,
  sentAt: new Date(sentAt).toISOString(),
});

/**
 * Every consumer of a queue begins with this: a canary is written off and acknowledged, anything else is its work. A
 * canary whose arrival cannot be stored comes back, like any message.
 */
export async function unlessCanary<T>(
  { canaryArrivals }: CanaryDeps,
  raw: unknown,
  run: Run,
  work: () => Promise<T>,
): Promise<T | undefined> {
  const id = canaryOf(raw);
  if (id === undefined) return work();
  const isKnown = await canaryArrivals.arrive(id, run.signal);
  run.note({ canary: id, isKnown });
  return undefined;
}

/** The id of a canary, of a message as the host hands it over: parsed where it could be. */
export function canaryOf(raw: unknown): string | undefined {
  if (typeof raw !== "object" || raw === null) return undefined;
  const { canary, sentAt, ...rest } = raw as Record<string, unknown>;
  const isCanary = typeof canary === "string" && UUID.test(canary) && typeof sentAt === "string";
  return isCanary && Object.keys(rest).length === 0 ? canary : undefined;
}
