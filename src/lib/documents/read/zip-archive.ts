import { Inflate } from "fflate";
import { type AppError, permanent } from "../../kernel/errors.ts";
import type { ReadLimits } from "./document-text.ts";

/**
 * ZIP by its central directory: random access, nothing unpacked to disk, and every inflated byte is counted against an
 * allowance, because the declared sizes can lie.
 */
export interface ZipEntry {
  /** Only a key; never a path. */
  readonly name: string;
  /** 0 stored, 8 deflated. */
  readonly method: number;
  readonly isEncrypted: boolean;
  readonly packedBytes: number;
  /** As declared. */
  readonly inflatedBytes: number;
  readonly offset: number;
}

/** Shared by all archives of one document. */
export interface Allowance {
  inflatedBytes: number;
  attachments: number;
}

const END_OF_DIRECTORY = 0x06054b50;
const END_BYTES = 22;
/** The end record, and the longest comment behind it. */
const END_SEARCH_BYTES = END_BYTES + 65_535;
const DIRECTORY_ENTRY = 0x02014b50;
const DIRECTORY_ENTRY_BYTES = 46;
const LOCAL_ENTRY = 0x04034b50;
const LOCAL_ENTRY_BYTES = 30;
const ZIP64_COUNT = 0xffff;
const ZIP64_SIZE = 0xffffffff;
/** Small archives of blank XML have high ratios. */
const RATIO_FROM_BYTES = 2 ** 20;
const INFLATE_STEP_BYTES = 16_384;

const corrupt = (reason: string): AppError => permanent("document_corrupt", { reason });
const bomb = (limit: string, max: number): AppError =>
  permanent("document_zip_bomb", { limit, max });

/** @throws AppError `document_corrupt`, `document_zip_bomb` (too many entries). Inflates nothing. */
export function readDirectory(bytes: Uint8Array, entriesMax: number): ZipEntry[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = findEnd(view);
  if (view.getUint16(end + 4, true) !== 0) throw corrupt("zip_several_disks");
  const count = view.getUint16(end + 10, true);
  let at = view.getUint32(end + 16, true);
  if (count === ZIP64_COUNT || at === ZIP64_SIZE) throw bomb("zip64", 0);
  if (count > entriesMax) throw bomb("entries", entriesMax);
  const entries: ZipEntry[] = [];
  for (let n = 0; n < count; n++) {
    if (
      at + DIRECTORY_ENTRY_BYTES > view.byteLength ||
      view.getUint32(at, true) !== DIRECTORY_ENTRY
    )
      throw corrupt("zip_directory");
    const nameBytes = view.getUint16(at + 28, true);
    entries.push(directoryEntry(bytes, view, at, nameBytes));
    at +=
      DIRECTORY_ENTRY_BYTES +
      nameBytes +
      view.getUint16(at + 30, true) +
      view.getUint16(at + 32, true);
  }
  return entries;
}

function findEnd(view: DataView): number {
  const first = Math.max(0, view.byteLength - END_SEARCH_BYTES);
  for (let at = view.byteLength - END_BYTES; at >= first; at--) {
    if (view.getUint32(at, true) === END_OF_DIRECTORY) return at;
  }
  throw corrupt("zip_truncated");
}

const names = new TextDecoder();

function directoryEntry(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  nameBytes: number,
): ZipEntry {
  const nameAt = at + DIRECTORY_ENTRY_BYTES;
  return {
    name: names.decode(bytes.subarray(nameAt, nameAt + nameBytes)).replace(/^\//, ""),
    isEncrypted: (view.getUint16(at + 8, true) & 1) !== 0,
    method: view.getUint16(at + 10, true),
    packedBytes: view.getUint32(at + 20, true),
    inflatedBytes: view.getUint32(at + 24, true),
    offset: view.getUint32(at + 42, true),
  };
}

/** What the directory says is refused here, before any parser runs. @throws AppError as `readDirectory`, `document_encrypted`. */
export function checkDirectory(
  entries: readonly ZipEntry[],
  inflatedBytesMax: number,
  limits: Pick<ReadLimits, "zipRatioMax">,
): void {
  if (entries.some(({ isEncrypted }) => isEncrypted)) throw permanent("document_encrypted");
  const inflated = entries.reduce((sum, entry) => sum + entry.inflatedBytes, 0);
  const packed = entries.reduce((sum, entry) => sum + entry.packedBytes, 0);
  if (inflated > inflatedBytesMax) throw bomb("inflated_bytes", inflatedBytesMax);
  if (inflated > RATIO_FROM_BYTES && inflated / Math.max(1, packed) > limits.zipRatioMax)
    throw bomb("ratio", limits.zipRatioMax);
}

/**
 * Inflates one entry in small steps; the last call has `isLast`.
 *
 * @throws AppError `document_zip_bomb` when the allowance is used up, `document_corrupt`.
 */
export function inflateEntry(
  bytes: Uint8Array,
  entry: ZipEntry,
  allowance: Allowance,
  onBytes: (piece: Uint8Array, isLast: boolean) => void,
): void {
  const counted = (piece: Uint8Array, isLast: boolean) => {
    allowance.inflatedBytes -= piece.length;
    if (allowance.inflatedBytes < 0) throw bomb("inflated_bytes_counted", 0);
    onBytes(piece, isLast);
  };
  const packed = packedBytes(bytes, entry);
  if (entry.method === 0) {
    counted(packed, true);
    return;
  }
  if (entry.method !== 8) throw corrupt("zip_method");
  const inflate = new Inflate(counted);
  for (let at = 0; at < packed.length || at === 0; at += INFLATE_STEP_BYTES) {
    const end = at + INFLATE_STEP_BYTES;
    inflate.push(packed.subarray(at, end), end >= packed.length);
  }
}

/** Compressed bytes of an entry; the local header has its own lengths of name and extra field. */
function packedBytes(bytes: Uint8Array, { offset, packedBytes: length }: ZipEntry): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (offset + LOCAL_ENTRY_BYTES > view.byteLength || view.getUint32(offset, true) !== LOCAL_ENTRY)
    throw corrupt("zip_entry");
  const start =
    offset +
    LOCAL_ENTRY_BYTES +
    view.getUint16(offset + 26, true) +
    view.getUint16(offset + 28, true);
  if (start + length > bytes.length) throw corrupt("zip_truncated");
  return bytes.subarray(start, start + length);
}

/** The whole text of a small part, such as the styles of a document. */
export function entryText(bytes: Uint8Array, entry: ZipEntry, allowance: Allowance): string {
  const decoder = new TextDecoder();
  let text = "";
  inflateEntry(bytes, entry, allowance, (piece, isLast) => {
    text += decoder.decode(piece, { stream: !isLast });
  });
  return text;
}
