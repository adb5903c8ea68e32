import { permanent } from "../../kernel/errors.ts";
import { parseXmlPart } from "./parse-xml-part.ts";
import { readSheet } from "./read-sheet.ts";
import type { ReadFacts, ReadTask } from "./reader.ts";
import { readDateStyles } from "./xlsx-dates.ts";
import { readDirectory, type ZipEntry } from "./zip-archive.ts";

interface Sheet {
  readonly name: string;
  readonly isHidden: boolean;
  readonly part: string;
}

export interface Workbook {
  readonly strings: readonly string[];
  /** By index of the style: whether its numbers are dates. */
  readonly dateStyles: readonly boolean[];
  readonly is1904: boolean;
}

/** One section and one table per sheet, the first row that is not empty as header. Formulas are never evaluated. */
export function readXlsx(task: ReadTask): ReadFacts {
  const parts = new Map(
    readDirectory(task.bytes, task.limits.zipEntriesMax).map((entry) => [entry.name, entry]),
  );
  const main = [...parts.keys()].find((name) => /^xl\/workbook\d*\.xml$/.test(name));
  const mainEntry = main === undefined ? undefined : parts.get(main);
  if (main === undefined || mainEntry === undefined)
    throw permanent("document_corrupt", { reason: "no_workbook" });
  const { sheets, is1904 } = readWorkbook(task, mainEntry, readTargets(task, parts, main));
  const workbook: Workbook = {
    strings: readSharedStrings(task, parts.get("xl/sharedStrings.xml")),
    dateStyles: readDateStyles(task, parts.get("xl/styles.xml")),
    is1904,
  };
  for (const { name, isHidden, part } of sheets) {
    const entry = parts.get(part);
    if (entry === undefined || !part.includes("worksheets/")) continue; // a sheet of charts has no cells
    task.out.block({
      kind: "section",
      sort: "sheet",
      title: name,
      ...(isHidden ? { isHidden } : {}),
    });
    readSheet(task, entry, workbook);
  }
  return { pages: sheets.length };
}

/** Relationship → part. */
function readTargets(
  { bytes, allowance }: ReadTask,
  parts: ReadonlyMap<string, ZipEntry>,
  main: string,
): ReadonlyMap<string, string> {
  const targets = new Map<string, string>();
  const entry = parts.get(main.replace(/^xl\//, "xl/_rels/").concat(".rels"));
  if (entry === undefined) return targets;
  parseXmlPart(bytes, entry, allowance, {
    open: (name, { Id, Target }) => {
      if (name !== "Relationship" || Id === undefined || Target === undefined) return;
      targets.set(
        Id,
        Target.startsWith("/") ? Target.slice(1) : `xl/${Target.replace(/^\.\//, "")}`,
      );
    },
  });
  return targets;
}

function readWorkbook(
  { bytes, allowance }: ReadTask,
  entry: ZipEntry,
  targets: ReadonlyMap<string, string>,
): { sheets: Sheet[]; is1904: boolean } {
  const sheets: Sheet[] = [];
  let is1904 = false;
  parseXmlPart(bytes, entry, allowance, {
    open: (name, attributes) => {
      if (name === "workbookPr") is1904 = /^(1|true)$/.test(attributes["date1904"] ?? "");
      if (name === "sheet")
        sheets.push({
          name: attributes["name"] ?? "",
          isHidden: (attributes["state"] ?? "visible") !== "visible",
          part: targets.get(relationOf(attributes)) ?? "",
        });
    },
  });
  return { sheets, is1904 };
}

/** The prefix of `r:id` is the writer's choice. */
const relationOf = (attributes: Readonly<Record<string, string>>): string =>
  Object.entries(attributes).find(([name]) => name.endsWith(":id"))?.[1] ?? "";

/** Runs of one string are joined; how it is pronounced (`rPh`) is left out. */
function readSharedStrings(
  { bytes, allowance, limits }: ReadTask,
  entry: ZipEntry | undefined,
): string[] {
  const strings: string[] = [];
  if (entry === undefined) return strings;
  let text = "";
  let isText = false;
  let phonetic = 0;
  let characters = 0;
  parseXmlPart(bytes, entry, allowance, {
    open: (name) => {
      if (name === "si") text = "";
      else if (name === "rPh") phonetic++;
      else if (name === "t") isText = phonetic === 0;
    },
    text: (piece) => {
      if (isText) text += piece;
    },
    close: (name) => {
      if (name === "t") isText = false;
      else if (name === "rPh") phonetic--;
      else if (name === "si") {
        characters += text.length;
        if (characters > limits.charactersMax || strings.length >= limits.cellsMax)
          throw permanent("document_too_large", { limit: "shared_strings" });
        strings.push(text);
      }
    },
  });
  return strings;
}
