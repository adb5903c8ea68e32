import { z } from "zod";
import { AppError } from "../kernel/errors.ts";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import type { WorkAccounts } from "./work-accounting.ts";

const Accounts = z.record(z.string(), z.string());

export const workAccounts = (rpc: Rpc): WorkAccounts => ({
  read: async (signal) => {
    const parsed = Accounts.safeParse(await rpc("work_accounting", {}, signal));
    if (parsed.success) return parsed.data;
    throw new AppError("bug", "database_reply_unexpected", { details: { what: "work accounts" } });
  },
});
