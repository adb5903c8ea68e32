import { parseXmlPart } from "./parse-xml-part.ts";
import type { ReadTask } from "./reader.ts";
import type { ZipEntry } from "./zip-archive.ts";

/** Number formats that every program has and that are dates or times. */
const BUILT_IN = [
  [14, 22],
  [27, 36],
  [45, 47],
  [50, 58],
] as const;

/** By index of the style: whether its numbers are dates. */
export function readDateStyles(
  { bytes, allowance }: ReadTask,
  entry: ZipEntry | undefined,
): boolean[] {
  const styles: boolean[] = [];
  if (entry === undefined) return styles;
  const custom = new Map<number, boolean>();
  let isInside = false;
  parseXmlPart(bytes, entry, allowance, {
    open: (name, attributes) => {
      const id = Number(attributes["numFmtId"] ?? 0);
      if (name === "numFmt") custom.set(id, isDateFormat(attributes["formatCode"] ?? ""));
      else if (name === "cellXfs") isInside = true;
      else if (name === "xf" && isInside) styles.push(custom.get(id) ?? isBuiltIn(id));
    },
    close: (name) => {
      if (name === "cellXfs") isInside = false;
    },
  });
  return styles;
}

const isBuiltIn = (id: number): boolean => BUILT_IN.some(([from, to]) => id >= from && id <= to);

/** Literals go first; then letters of dates are left, or none. `[h]`, `[mm]` and `[s]` are durations. */
export function isDateFormat(code: string): boolean {
  const bare = code
    .replace(/"[^"]*"|\\.|_.|\*./g, "")
    .replace(/\[(?!h+\]|m+\]|s+\])[^\]]*\]/gi, "")
    .replace(/General/gi, "");
  return /[dmyhs]/i.test(bare);
}

const DAYS_1904 = 1_462;
const DAYS_1970 = 25_569;
/** The first day of the year 10000. */
const SERIAL_END = 2_958_466;
/** 29 February 1900, a day that spreadsheets count and the calendar does not have. */
const SERIAL_NO_DAY = 60;
const DAY_SECONDS = 86_400;

/** `2024-02-29`, with a time `2024-02-29 13:30:00`; a time alone `13:30:00`; a number out of range as it is. */
export function serialToText(serial: number, is1904: boolean): string {
  const days = is1904 ? serial + DAYS_1904 : serial;
  if (!(days >= 0 && days < SERIAL_END)) return String(serial);
  const shift = days < SERIAL_NO_DAY ? 1 : 0;
  const iso = new Date(Math.round((days + shift - DAYS_1970) * DAY_SECONDS) * 1_000).toISOString();
  const [date = "", time = ""] = iso.slice(0, 19).split("T");
  if (days < 1) return time;
  return time === "00:00:00" ? date : `${date} ${time}`;
}
