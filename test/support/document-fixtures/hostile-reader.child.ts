import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Reader, ReadTask } from "../../../src/lib/documents/read/reader.ts";
import { READERS } from "../../../src/lib/documents/read/readers.ts";
import { serveRead } from "../../../src/lib/documents/read/serve-read.ts";

/*
 * A reading process whose text reader does what a parser must not: the text of the document says what. It runs in the
 * same process with the same limits as the real ones.
 */

const MIB = 2 ** 20;

const DEEDS: Readonly<Record<string, (task: ReadTask) => unknown>> = {
  loop: () => {
    for (;;);
  },
  "eat heap": () => {
    const eaten: object[] = [];
    for (;;) eaten.push({ key: `k${eaten.length}` });
  },
  "eat buffers": () => {
    const eaten: Buffer[] = [];
    for (;;) eaten.push(Buffer.alloc(16 * MIB, 1));
  },
  exit: () => process.exit(0),
  abort: () => process.abort(),
  recurse: () => {
    const deeper = (depth: number): number => deeper(depth + 1) + 1;
    return deeper(0);
  },
  "lie about rows": () => process.send?.({ kind: "part", text: '{"rows":[["x"]]}\n' }),
  "send nonsense": () => process.send?.({ kind: "done", type: "elf" }),
  flood: async () => {
    const part = { kind: "part", text: "x".repeat(150_000) };
    for (;;) await new Promise((sent) => process.send?.(part, sent));
  },
  "write a file": () => writeFileSync(join(tmpdir(), "written-by-a-parser"), "x"),
  "start a process": () => spawnSync(process.execPath, ["-e", "0"]),
  "open a connection": () => connect(9, "127.0.0.1"),
  "show the environment": ({ out }) =>
    out.block({ kind: "paragraph", text: `${Object.keys(process.env).join(" ")}.` }),
};

const hostile: Reader = async (task) => {
  const text = new TextDecoder().decode(task.bytes);
  const deed = DEEDS[text];
  if (deed === undefined) throw new Error(`no such deed: ${text}`);
  await deed(task);
  return {};
};

serveRead({ ...READERS, text: async () => hostile });
