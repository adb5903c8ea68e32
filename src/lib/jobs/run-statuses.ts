/** What may become of a planned slot or a manual run. The first two are open, the others final. */
export const RUN_STATUSES = [
  "queued",
  "running",
  "succeeded",
  "failed",
  "skipped",
  "caught_up",
  "missed",
  "abandoned",
  "cancelled",
] as const;
