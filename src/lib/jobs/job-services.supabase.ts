import type { Rpc } from "../runtime/rpc.supabase.ts";
import { jobControl, jobLedger, runLease, runSweeper } from "./job-ledger.supabase.ts";

/** The ports of scheduled jobs that the database answers. */
export const jobServices = (rpc: Rpc) => ({
  jobLedger: jobLedger(rpc),
  runLease: runLease(rpc),
  runSweeper: runSweeper(rpc),
  jobControl: jobControl(rpc),
});
