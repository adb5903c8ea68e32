import { documentKind } from "./lib/documents/document-kind.ts";
import type { DocumentMessage } from "./lib/documents/document-message.ts";
import { type BoundWork, bindWork } from "./lib/queue/bind-work.ts";
import type { Services } from "./services.ts";

/** Every kind of work with what does it. What is known of a kind without its handler stands in queues.ts. */
export const WORK: readonly BoundWork<Services>[] = [
  bindWork<Services, DocumentMessage>(documentKind),
];
