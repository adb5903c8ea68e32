import { burn, type Entry } from "@kenjiuno/msgreader/lib/Burner.js";

export interface Folder {
  readonly [name: string]: Uint8Array | Folder;
}

const DIRECTORY = 1;
const STREAM = 2;
const ROOT = 5;

/** The container of old Office files, of encrypted ones, and of Outlook's mails. */
export function compoundFileOf(root: Folder): Uint8Array {
  const entries: Entry[] = [];
  const add = (name: string, type: Entry["type"], folder: Folder): number => {
    const entry: Entry = { name, type, length: 0, children: [] };
    const index = entries.push(entry) - 1;
    entry.children = Object.entries(folder).map(([child, content]) =>
      content instanceof Uint8Array
        ? entries.push({
            name: child,
            type: STREAM,
            length: content.length,
            binaryProvider: () => content,
          }) - 1
        : add(child, DIRECTORY, content),
    );
    return index;
  };
  add("Root Entry", ROOT, root);
  return burn(entries);
}

const utf16 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "utf16le"));
const property = (tag: string): string => `__substg1.0_${tag}`;

export interface MsgMail {
  readonly subject: string;
  readonly body?: string;
  readonly html?: string;
  readonly rtf?: string;
  readonly attachments?: readonly { readonly name: string; readonly bytes: Uint8Array }[];
}

export function msgOf({ subject, body, html, rtf, attachments = [] }: MsgMail): Uint8Array {
  const folder: Record<string, Uint8Array | Folder> = { [property("0037001F")]: utf16(subject) };
  if (body !== undefined) folder[property("1000001F")] = utf16(body);
  if (html !== undefined) folder[property("10130102")] = new TextEncoder().encode(html);
  if (rtf !== undefined) folder[property("10090102")] = storedRtf(rtf);
  attachments.forEach(({ name, bytes }, at) => {
    folder[`__attach_version1.0_#${String(at).padStart(8, "0")}`] = {
      [property("3707001F")]: utf16(name),
      [property("37010102")]: bytes,
    };
  });
  return compoundFileOf(folder);
}

/** In the frame of compressed RTF, without compression. */
export function storedRtf(rtf: string, kind = "MELA"): Uint8Array {
  const body = Buffer.from(rtf, "latin1");
  const header = Buffer.alloc(16);
  header.writeUInt32LE(body.length + 12, 0);
  header.writeUInt32LE(body.length, 4);
  header.write(kind, 8, "latin1");
  return new Uint8Array(Buffer.concat([header, body]));
}
