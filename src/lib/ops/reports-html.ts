/** HTML that was escaped already. A plain string put into a template is escaped; only `html` makes such a value. */
export interface Html {
  readonly html: string;
}

type Part = Html | string | number | readonly Html[];

/** Everything that is put in is text unless it came out of `html` itself. */
export const html = (strings: TemplateStringsArray, ...parts: readonly Part[]): Html => ({
  html: String.raw({ raw: strings }, ...parts.map(toHtml)),
});

export const NOTHING: Html = { html: "" };

function toHtml(part: Part): string {
  if (typeof part === "string" || typeof part === "number") return escapeText(String(part));
  return "html" in part ? part.html : part.map(toHtml).join("");
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};
/** Control characters besides white space are not allowed in a page; they become a mark. */
const escapeText = (text: string): string =>
  text
    .replace(/[&<>"']/g, (character) => ENTITIES[character] ?? character)
    .replace(/[^\P{Cc}\t\n\r]/gu, "\uFFFD");

export interface Bar {
  readonly label: string;
  readonly value: number;
  /** What a reader sees who cannot see the bar. */
  readonly title: string;
  readonly tone?: "good" | "warn" | "bad";
}

const CHART = { width: 640, height: 120, top: 8, bottom: 22 };

/** Columns over their labels, as SVG in the page itself. The largest value fills the height. */
export function barChart(bars: readonly Bar[], name: string): Html {
  const max = Math.max(...bars.map(({ value }) => value), 1);
  const step = CHART.width / Math.max(bars.length, 1);
  const room = CHART.height - CHART.top - CHART.bottom;
  const columns = bars.map(({ label, value, title, tone = "good" }, i) => {
    const height = Math.max((value / max) * room, value > 0 ? 1 : 0);
    const x = (i * step + step * 0.12).toFixed(1);
    const y = (CHART.top + room - height).toFixed(1);
    const middle = (i * step + step / 2).toFixed(1);
    return html`<g><title>${title}</title><rect class="${tone}" x="${x}" y="${y}" width="${(step * 0.76).toFixed(1)}" height="${height.toFixed(1)}" rx="2"/><text x="${middle}" y="${CHART.height - 6}" text-anchor="middle">${label}</text></g>`;
  });
  return html`<svg viewBox="0 0 ${CHART.width} ${CHART.height}" role="img" aria-label="${name}">${columns}</svg>`;
}

export interface Column {
  readonly head: string;
  readonly isNumber?: boolean;
}

export const table = (columns: readonly Column[], rows: readonly (readonly Part[])[]): Html =>
  rows.length === 0
    ? html`<p class="none">—</p>`
    : html`<div class="scroll"><table><thead><tr>${columns.map(
        ({ head, isNumber }) => html`<th${classOf(isNumber)}>${head}</th>`,
      )}</tr></thead><tbody>${rows.map(
        (row) =>
          html`<tr>${row.map((cell, i) => html`<td${classOf(columns[i]?.isNumber)}>${cell}</td>`)}</tr>`,
      )}</tbody></table></div>`;

const classOf = (isNumber = false): Html => (isNumber ? { html: ' class="n"' } : NOTHING);
