import { strToU8, zipSync } from "fflate";

export type Parts = Readonly<Record<string, string | Uint8Array>>;

export const zipOf = (parts: Parts, level: 0 | 6 | 9 = 6): Uint8Array =>
  zipSync(
    Object.fromEntries(
      Object.entries(parts).map(([name, part]) => [
        name,
        typeof part === "string" ? strToU8(part) : part,
      ]),
    ),
    { level },
  );

const DIRECTORY_ENTRY = 0x02014b50;

/** Offsets of the entries in the central directory. */
function entriesOf(zip: Uint8Array): number[] {
  const view = new DataView(zip.buffer, zip.byteOffset, zip.byteLength);
  const found: number[] = [];
  for (let at = 0; at + 46 <= view.byteLength; at++) {
    if (view.getUint32(at, true) === DIRECTORY_ENTRY) found.push(at);
  }
  return found;
}

/** Sets the flag that says that entries need a password. */
export function markEncrypted(zip: Uint8Array): Uint8Array {
  const copy = zip.slice();
  for (const at of entriesOf(copy)) copy[at + 8] = (copy[at + 8] ?? 0) | 1;
  return copy;
}

/** Lets every entry declare another inflated size, in its directory and in front of its bytes. */
export function declareSize(zip: Uint8Array, bytes: number): Uint8Array {
  const copy = zip.slice();
  const view = new DataView(copy.buffer);
  for (const at of entriesOf(copy)) {
    view.setUint32(at + 24, bytes, true);
    view.setUint32(view.getUint32(at + 42, true) + 22, bytes, true);
  }
  return copy;
}
