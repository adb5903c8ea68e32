import msgReader, { type FieldsData } from "@kenjiuno/msgreader";
import { permanent } from "../../kernel/errors.ts";
import { decodeText } from "./decode-text.ts";
import { inflateRtf } from "./inflate-rtf.ts";
import { putHtml } from "./read-html.ts";
import { addParagraphs } from "./read-plain.ts";
import type { ReadFacts, ReadTask } from "./reader.ts";
import { rtfText } from "./rtf-text.ts";

/** CommonJS with a default of its own: Node and the bundle hand out the module, other loaders what is in it. */
const MailReader: typeof msgReader.default = "default" in msgReader ? msgReader.default : msgReader;

/** The mail of Outlook: subject, then text, else HTML, else RTF; then the attachments. */
export async function readMsg(task: ReadTask): Promise<ReadFacts> {
  const { bytes } = task;
  const mail = new MailReader(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  const fields = mail.getFileData();
  if (fields.dataType !== "msg") throw permanent("document_corrupt", { reason: "msg" });
  const subject = fields.subject?.trim() ?? "";
  if (subject !== "") task.out.block({ kind: "heading", level: 1, text: subject });
  const before = task.out.characters;
  putBody(task, fields);
  const hasBody = task.out.characters > before;
  for (const attachment of fields.attachments ?? []) {
    const name = attachment.fileName ?? attachment.fileNameShort ?? attachment.name ?? "attachment";
    if (!hasBody && isSealed(name)) throw permanent("document_encrypted");
    if (!isDecoration(attachment, name)) await addAttachment(task, mail, attachment, name);
  }
  return subject === "" ? {} : { meta: { title: subject } };
}

function putBody(task: ReadTask, { body, bodyHtml, html, compressedRtf }: FieldsData): void {
  if ((body ?? "").trim() !== "") addParagraphs(task, body ?? "");
  else if (bodyHtml !== undefined) putHtml(task, bodyHtml);
  else if (html !== undefined) putHtml(task, decodeText(html).text);
  else if (compressedRtf !== undefined)
    addParagraphs(task, rtfText(inflateRtf(compressedRtf, task.limits.inflatedBytesMax)));
}

const isSealed = (name: string): boolean => /\.(pgp-encrypted|p7m)$|^encrypted\.asc$/i.test(name);

/** Logos in the text. */
const isDecoration = ({ attachmentHidden, pidContentId }: FieldsData, name: string): boolean =>
  /\.(png|jpe?g|gif|bmp|svg)$/i.test(name) &&
  (attachmentHidden === true || pidContentId !== undefined);

async function addAttachment(
  task: ReadTask,
  mail: InstanceType<typeof msgReader.default>,
  attachment: FieldsData,
  name: string,
): Promise<void> {
  const isMail = attachment.innerMsgContent === true;
  const { content } = mail.getAttachment(attachment);
  const title = isMail && !/\.msg$/i.test(name) ? `${name}.msg` : name;
  await task.readAttachment({ bytes: new Uint8Array(content), name: title });
}
