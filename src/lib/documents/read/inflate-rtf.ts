import { permanent } from "../../kernel/errors.ts";

const COMPRESSED = 0x75465a4c;
const STORED = 0x414c454d;
const HEADER_BYTES = 16;
const WINDOW_BYTES = 4_096;
/** What both sides know before the first byte. */
const KNOWN =
  "{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern \\fscript \\fdecor " +
  "MS Sans SerifSymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0\\blue0\r\n\\par \\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx";

/**
 * RTF as Outlook packs it into mails ([MS-OXRTFCP]): references into a window of 4 KiB.
 *
 * @throws AppError `document_corrupt`, `document_zip_bomb` when it inflates beyond `bytesMax`.
 */
export function inflateRtf(packed: Uint8Array, bytesMax: number): Uint8Array {
  const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength);
  if (view.byteLength < HEADER_BYTES) throw permanent("document_corrupt", { reason: "rtf" });
  const inflatedBytes = view.getUint32(4, true);
  const kind = view.getUint32(8, true);
  if (inflatedBytes > bytesMax)
    throw permanent("document_zip_bomb", { limit: "rtf", max: bytesMax });
  const body = packed.subarray(HEADER_BYTES);
  if (kind === STORED) return body.subarray(0, inflatedBytes);
  if (kind !== COMPRESSED) throw permanent("document_corrupt", { reason: "rtf" });
  return inflate(body, inflatedBytes);
}

function inflate(body: Uint8Array, inflatedBytes: number): Uint8Array {
  const result = new Uint8Array(inflatedBytes);
  const window = new Uint8Array(WINDOW_BYTES);
  let head = new TextEncoder().encodeInto(KNOWN, window).written;
  let written = 0;
  const put = (byte: number) => {
    if (written < inflatedBytes) result[written++] = byte;
    window[head] = byte;
    head = (head + 1) % WINDOW_BYTES;
  };
  for (let at = 0; at < body.length && written < inflatedBytes; ) {
    const flags = body[at++] ?? 0;
    for (let bit = 0; bit < 8 && at < body.length; bit++) {
      if ((flags & (1 << bit)) === 0) {
        put(body[at++] ?? 0);
        continue;
      }
      const reference = ((body[at] ?? 0) << 8) | (body[at + 1] ?? 0);
      at += 2;
      const from = reference >> 4;
      if (from === head) return result.subarray(0, written); // the mark of the end
      for (let copied = 0; copied < (reference & 15) + 2; copied++)
        put(window[(from + copied) % WINDOW_BYTES] ?? 0);
    }
  }
  return result.subarray(0, written);
}
