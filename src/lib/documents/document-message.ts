import { z } from "zod";

/** What a queue message or a work item says about a document: look at it. Its row knows everything else. */
export const DocumentMessage = z.object({
  documentId: z.uuid(),
  workspaceId: z.uuid(),
});
export type DocumentMessage = z.output<typeof DocumentMessage>;
