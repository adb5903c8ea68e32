/** Pages nest some dozens deep. The parser takes a time that grows with the square of the depth. */
const DEPTH_MAX = 256;

/** Elements that have no end, or need not write it, so that they cannot be counted; none of them nests by itself. */
const NOT_COUNTED = new Set(
  `area base br col embed hr img input link meta param source track wbr p li dt dd option optgroup tr td th thead tbody
  tfoot colgroup caption html head body`.split(/\s+/),
);
const TAG = /<(\/?)([a-z][\w:-]{0,60})(?:[\s/][^>]*)?>/gi;

/** The same text without the tags of elements that are nested deeper than any page is. */
export function flattenHtml(html: string): string {
  let depth = 0;
  return html.replace(TAG, (tag, end: string, name: string) => {
    if (NOT_COUNTED.has(name.toLowerCase())) return tag;
    if (end === "") return ++depth > DEPTH_MAX ? " " : tag;
    const isKept = depth <= DEPTH_MAX;
    depth = Math.max(0, depth - 1);
    return isKept ? tag : " ";
  });
}
