import { READERS } from "./readers.ts";
import { serveRead } from "./serve-read.ts";

/* The entry of the child process that reads one document; `read-document.ts` starts it. */
serveRead(READERS);
