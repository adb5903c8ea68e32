import { localName, parseXmlPart } from "./parse-xml-part.ts";
import type { ReadTask } from "./reader.ts";
import { readDirectory } from "./zip-archive.ts";

interface Style {
  name: string;
  basedOn: string | undefined;
  outlineLevel: number | undefined;
}

/** A chain of styles that leads back to itself ends here. */
const BASES_MAX = 20;
/** Outline level 9 means body text. */
const OUTLINE_HEADINGS_MAX = 8;

/**
 * Id of a style → level of heading. Word translates the ids of its styles (`Ttulo1`) and keeps their names (`heading 1`);
 * a style of one's own is a heading by its outline level, or by the style that it is based on.
 */
export function readHeadingStyles({ bytes, limits, allowance }: ReadTask): Map<string, number> {
  const entry = readDirectory(bytes, limits.zipEntriesMax).find(({ name }) =>
    /^word\/styles\d*\.xml$/.test(name),
  );
  const styles = new Map<string, Style>();
  if (entry === undefined) return new Map();
  let style: Style | undefined;
  parseXmlPart(bytes, entry, allowance, {
    open: (name, attributes) => {
      const value = attribute(attributes, "val");
      if (name === "style") {
        style = { name: "", basedOn: undefined, outlineLevel: undefined };
        styles.set(attribute(attributes, "styleId") ?? "", style);
      } else if (style === undefined) return;
      else if (name === "name") style.name = value ?? "";
      else if (name === "basedOn") style.basedOn = value;
      else if (name === "outlineLvl") style.outlineLevel = Number(value);
    },
    close: (name) => {
      if (name === "style") style = undefined;
    },
  });
  return levelsOf(styles);
}

const attribute = (
  attributes: Readonly<Record<string, string>>,
  name: string,
): string | undefined => Object.entries(attributes).find(([key]) => localName(key) === name)?.[1];

function levelsOf(styles: ReadonlyMap<string, Style>): Map<string, number> {
  const levels = new Map<string, number>();
  for (const id of styles.keys()) {
    const level = levelOf(id, styles);
    if (level !== undefined) levels.set(id, level);
  }
  return levels;
}

function levelOf(id: string, styles: ReadonlyMap<string, Style>): number | undefined {
  let style = styles.get(id);
  for (let bases = 0; style !== undefined && bases < BASES_MAX; bases++) {
    const named = /^heading ([1-9])$/i.exec(style.name)?.[1];
    if (named !== undefined) return Number(named);
    if (style.outlineLevel !== undefined)
      return style.outlineLevel <= OUTLINE_HEADINGS_MAX ? style.outlineLevel + 1 : undefined;
    style = style.basedOn === undefined ? undefined : styles.get(style.basedOn);
  }
  return undefined;
}
