import type { UseEntry } from "../log-entry.ts";
import { type BadMember, parseMember } from "./pending-record.ts";

/** What one page of the pending set becomes. */
export interface PendingPlan {
  readonly uses: readonly UseEntry[];
  readonly bad: readonly BadMember[];
  /** Members that the set may forget once the plan is stored: nothing of them is lost. */
  readonly removable: readonly string[];
}

/** @param now ms. A page may name a member twice. Pure. */
export function planPending(members: readonly string[], now: number): PendingPlan {
  const uses: UseEntry[] = [];
  const bad: BadMember[] = [];
  const removable: string[] = [];
  for (const member of new Set(members)) {
    const parsed = parseMember(member, now);
    if (parsed.kind === "use") uses.push(parsed.use);
    else bad.push(parsed.bad);
    if (parsed.kind === "use" || parsed.bad.isComplete) removable.push(member);
  }
  return { uses, bad, removable };
}
