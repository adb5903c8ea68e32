import { z } from "zod";

/** Unknown fields are ignored: messages only gain fields. */
export const JobRunMessageSchema = z.object({
  v: z.literal(1),
  job: z.string().min(1).max(100),
  run: z.uuid().optional(),
});
