export interface DecodedText {
  readonly text: string;
  readonly charset: string;
  /** False when no encoding fits: some characters are wrong. */
  readonly isCertain: boolean;
  /** Whether the bytes are well-formed in a Unicode encoding, so that they are text beyond doubt. */
  readonly isUnicode: boolean;
}

const decodeStrictly = (bytes: Uint8Array, charset: string): string | undefined => {
  try {
    return new TextDecoder(charset, { fatal: true }).decode(bytes);
  } catch {
    return undefined; // ill-formed, or an encoding that Node does not know
  }
};

/**
 * Byte order mark, then the declared encoding if it fits, then UTF-8 if it fits, then windows-1252. No statistics: on
 * short Latin texts they guess wrong, with confidence.
 */
export function decodeText(bytes: Uint8Array, declared?: string): DecodedText {
  const marked = decodeMarked(bytes) ?? decodeByZeros(bytes);
  if (marked !== undefined) return { ...marked, isCertain: true, isUnicode: true };
  const charset = declared?.toLowerCase().trim();
  if (charset !== undefined && charset !== "" && !isLatin1(charset)) {
    const text = decodeStrictly(bytes, charset);
    if (text !== undefined)
      return { text, charset, isCertain: true, isUnicode: charset.startsWith("utf") };
  }
  const text = decodeStrictly(bytes, "utf-8");
  if (text !== undefined) return { text, charset: "utf-8", isCertain: true, isUnicode: true };
  return decodeLegacy(bytes);
}

/** Who declares one of these means windows-1252, or does not know; UTF-8 that fits is no accident. */
const isLatin1 = (charset: string): boolean =>
  /^(iso-?8859-?1|latin-?1|us-ascii|ascii|windows-1252|cp1252)$/.test(charset);

type Marked = Pick<DecodedText, "text" | "charset">;

function decodeMarked(bytes: Uint8Array): Marked | undefined {
  const [a, b, c, d] = bytes;
  if (a === 0xff && b === 0xfe && c === 0 && d === 0)
    return { text: decodeUtf32(bytes.subarray(4), true), charset: "utf-32le" };
  if (a === 0 && b === 0 && c === 0xfe && d === 0xff)
    return { text: decodeUtf32(bytes.subarray(4), false), charset: "utf-32be" };
  if (a === 0xff && b === 0xfe) return decodeLoosely(bytes, "utf-16le");
  if (a === 0xfe && b === 0xff) return decodeLoosely(bytes, "utf-16be");
  if (a === 0xef && b === 0xbb && c === 0xbf) return decodeLoosely(bytes, "utf-8");
  return undefined;
}

const decodeLoosely = (bytes: Uint8Array, charset: string): Marked => ({
  text: new TextDecoder(charset).decode(bytes),
  charset,
});

/** TextDecoder does not know it. */
function decodeUtf32(bytes: Uint8Array, isLittleEndian: boolean): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const parts: string[] = [];
  for (let at = 0; at + 4 <= view.byteLength; at += 4) {
    const code = view.getUint32(at, isLittleEndian);
    parts.push(code <= 0x10ffff ? String.fromCodePoint(code) : "\ufffd");
  }
  return parts.join("").toWellFormed();
}

const ZEROS_SAMPLE_BYTES = 4_096;
/** Latin text in UTF-16 has a zero in nearly every second byte; a text with some NULs in it has not. */
const ZEROS_RATIO_MIN = 0.4;

/** UTF-16 without a mark. */
function decodeByZeros(bytes: Uint8Array): Marked | undefined {
  const sample = bytes.subarray(0, ZEROS_SAMPLE_BYTES);
  const zeros = [0, 0];
  sample.forEach((byte, at) => {
    if (byte === 0) zeros[at % 2] = (zeros[at % 2] ?? 0) + 1;
  });
  const [even = 0, odd = 0] = zeros;
  const min = (sample.length / 2) * ZEROS_RATIO_MIN;
  if (sample.length < 8 || Math.max(even, odd) < min || Math.min(even, odd) >= min)
    return undefined;
  const charset = odd > even ? "utf-16le" : "utf-16be";
  const text = decodeStrictly(bytes, charset);
  return text === undefined ? undefined : { text, charset };
}

/** Bytes that windows-1252 leaves undefined come out as C1 controls. */
const UNDEFINED_IN_WINDOWS_1252 = /[\u0081\u008d\u008f\u0090\u009d]/;

function decodeLegacy(bytes: Uint8Array): DecodedText {
  const text = new TextDecoder("windows-1252").decode(bytes);
  if (!UNDEFINED_IN_WINDOWS_1252.test(text))
    return { text, charset: "windows-1252", isCertain: true, isUnicode: false };
  const japanese = decodeStrictly(bytes, "shift_jis");
  if (japanese !== undefined)
    return { text: japanese, charset: "shift_jis", isCertain: true, isUnicode: false };
  return { text, charset: "windows-1252", isCertain: false, isUnicode: false };
}

const CONTROLS_RATIO_MAX = 0.05;

/** Bytes that decode somehow, and are no text all the same. */
export function isBinary({ text, isUnicode }: DecodedText): boolean {
  if (isUnicode) return false;
  let controls = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    const isSpacing = code === 9 || code === 10 || code === 12 || code === 13;
    if ((code < 32 && !isSpacing) || (code >= 0x7f && code <= 0x9f)) controls++;
  }
  return controls > text.length * CONTROLS_RATIO_MAX;
}
