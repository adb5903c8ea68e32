import type { QueueSettings } from "./host-json.ts";

type Encoding = QueueSettings["messageEncoding"];

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

export const encodeMessage = (body: Buffer, encoding: Encoding): string =>
  encoding === "none" ? body.toString("utf8") : body.toString("base64");

/** Undefined when the text is not in this encoding. */
export function decodeMessage(text: string, encoding: Encoding): string | undefined {
  if (encoding === "none") return text;
  const trimmed = text.trim();
  return BASE64.test(trimmed) ? Buffer.from(trimmed, "base64").toString("utf8") : undefined;
}
