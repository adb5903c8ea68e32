import PostalMime, { type Email, type Attachment as MailAttachment } from "postal-mime";
import { permanent } from "../../kernel/errors.ts";
import { putHtml } from "./read-html.ts";
import { addParagraphs } from "./read-plain.ts";
import type { ReadFacts, ReadTask } from "./reader.ts";

/** Parts in parts, of one mail; a mail in a mail is an attachment and counts anew. */
const NESTING_MAX = 64;

/** The subject as heading, then the text, or the HTML when there is no text; never both. Then the attachments. */
export async function readEml(task: ReadTask): Promise<ReadFacts> {
  const mail = await PostalMime.parse(task.bytes, {
    maxNestingDepth: NESTING_MAX,
    forceRfc822Attachments: true,
    attachmentEncoding: "arraybuffer",
  });
  if (isEncrypted(mail)) throw permanent("document_encrypted");
  const subject = mail.subject?.trim() ?? "";
  if (subject !== "") task.out.block({ kind: "heading", level: 1, text: subject });
  if ((mail.text ?? "").trim() !== "") addParagraphs(task, mail.text ?? "");
  else if (mail.html !== undefined) putHtml(task, mail.html);
  for (const attachment of mail.attachments) await addAttachment(task, attachment);
  return subject === "" ? {} : { meta: { title: subject } };
}

/** All of it; a signed mail is not. */
function isEncrypted({ headers }: Email): boolean {
  const type = headers.find(({ key }) => key === "content-type")?.value.toLowerCase() ?? "";
  const isSmime = /^application\/(x-)?pkcs7-mime/.test(type);
  return type.startsWith("multipart/encrypted") || isSmime;
}

async function addAttachment(task: ReadTask, attachment: MailAttachment): Promise<void> {
  if (isDecoration(attachment)) return;
  const { content, filename, mimeType } = attachment;
  const bytes =
    typeof content === "string" ? new TextEncoder().encode(content) : new Uint8Array(content);
  const isMail = mimeType === "message/rfc822";
  await task.readAttachment({ bytes, name: filename ?? (isMail ? "mail.eml" : "attachment") });
}

/** Logos in the text, signatures of the mail: nobody misses their text. */
function isDecoration({ mimeType, disposition, related, contentId }: MailAttachment): boolean {
  const isInline = disposition === "inline" || related === true || contentId !== undefined;
  if (mimeType.startsWith("image/")) return isInline;
  return /^application\/(pgp-signature|(x-)?pkcs7-signature)$/.test(mimeType);
}
