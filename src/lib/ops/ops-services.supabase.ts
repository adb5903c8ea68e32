import type { Rpc } from "../runtime/rpc.supabase.ts";
import { channelReads, noticeLedger } from "./alert-notifications.supabase.ts";
import { canaryArrivals, canaryLedger } from "./canary.supabase.ts";
import { expiredExports, exportLedger, exportReads, exportRows } from "./exports.supabase.ts";
import { reportFacts, reportReads, reportStore } from "./reports.supabase.ts";
import { workAccounts } from "./work-accounting.supabase.ts";

/** What the service does for its operators, as far as the database answers. `slow` waits for reads of whole days. */
export const opsServices = (rpc: Rpc, slow: Rpc) => ({
  noticeLedger: noticeLedger(rpc),
  channelReads: channelReads(rpc),
  canaryArrivals: canaryArrivals(rpc),
  canaryLedger: canaryLedger(rpc),
  workAccounts: workAccounts(rpc),
  exportLedger: exportLedger(slow),
  exportRows: exportRows(slow),
  exportReads: exportReads(rpc),
  expiredExports: expiredExports(rpc),
  reportFacts: reportFacts(slow),
  reportStore: reportStore(rpc),
  reportReads: reportReads(rpc),
});
