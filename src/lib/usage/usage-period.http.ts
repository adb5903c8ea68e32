import { z } from "@hono/zod-openapi";
import { isPeriod } from "./usage-keys.ts";

const month = z
  .string()
  .regex(/^\d{4}-?\d{2}$/, "must be yyyy-mm")
  .transform((text) => Number(text.replace("-", "")))
  .refine(isPeriod, "must be a month from 2000-01 to 2099-12");

/** A month as a caller writes it, as the number yyyymm. */
export const PeriodParam = month.openapi({
  type: "string",
  example: "2026-11",
  description: "Month, UTC.",
});

/** A month; absent = the current one. */
export const PeriodQuery = month.optional().openapi({
  type: "string",
  example: "2026-11",
  description: "Month, UTC; default: the current one.",
});

/** A month to filter by; absent = all. */
export const PeriodFilter = month.optional().openapi({
  type: "string",
  example: "2026-11",
  description: "Month, UTC; default: all.",
});

export const periodText = (period: number): string =>
  `${Math.floor(period / 100)}-${String(period % 100).padStart(2, "0")}`;
