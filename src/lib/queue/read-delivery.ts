import { z } from "zod";
import type { ErrorCode } from "../kernel/error-codes.ts";
import { AppError, type FieldFault, permanent } from "../kernel/errors.ts";
import { isStorable } from "./storable-json.ts";
import type { WorkSpec } from "./work.ts";
import { WorkMessageSchema } from "./work-message.ts";

export type ReadDelivery =
  /** One of our own. */
  | { readonly kind: "item"; readonly id: string }
  /** Of another producer: it becomes an item. */
  | {
      readonly kind: "foreign";
      readonly version: number;
      readonly payload: unknown;
      readonly tenant: string;
      readonly dedupeKey: string | undefined;
    }
  | { readonly kind: "refused"; readonly code: ErrorCode; readonly error: string };

const HeadSchema = z.looseObject({
  v: z.int().min(0).max(1_000_000).optional(),
  kind: z.string().optional(),
});

/**
 * Understands a message. Ours names an item; another producer's is the payload itself, with `v` for its version (the
 * newest when absent) and maybe `kind`.
 */
export function readDelivery(spec: WorkSpec, raw: unknown): ReadDelivery {
  const own = WorkMessageSchema.safeParse(raw);
  if (own.success) return { kind: "item", id: own.data.item };
  const head = HeadSchema.safeParse(raw);
  if (!head.success) return refused("message_invalid", "the message is not a JSON object");
  const { v: version = newestVersion(spec), kind = spec.kind, ...payload } = head.data;
  if (kind !== spec.kind) return refused("work_kind_unknown", `no such kind here: ${shown(kind)}`);
  const { adopt } = spec;
  if (adopt === undefined) return refused("message_invalid", "the message names no item");
  try {
    const parsed = parsePayload(spec, version, payload);
    const dedupeKey = adopt.dedupeKeyOf?.(parsed);
    const tenant = adopt.tenantOf(parsed);
    if (!isStorable(parsed, PAYLOAD_BYTES_MAX) || !isStorable([tenant, dedupeKey], NAMES_BYTES_MAX))
      return refused(
        "message_invalid",
        "the message holds characters that cannot be stored, or too many",
      );
    return { kind: "foreign", version, payload: parsed, tenant, dedupeKey };
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    const code = error.code === "work_payload_invalid" ? "message_invalid" : error.code;
    return refused(code, describe(error));
  }
}

/** Of an item: ids and options. */
export const PAYLOAD_BYTES_MAX = 8 * 1024;
const NAMES_BYTES_MAX = 200;

const refused = (code: ErrorCode, error: string): ReadDelivery => ({
  kind: "refused",
  code,
  error,
});

const SHOWN_CHARACTERS_MAX = 40;
/** A name that somebody else chose, short enough for an error text. */
const shown = (name: string): string => JSON.stringify(name.slice(0, SHOWN_CHARACTERS_MAX));

export const newestVersion = ({ versions }: Pick<WorkSpec, "versions">): number =>
  Math.max(...Object.keys(versions).map(Number));

/**
 * The payload as its version describes it.
 *
 * @throws AppError `work_version_unknown` · `work_payload_invalid`, which names the fields and no value.
 */
export function parsePayload<Payload>(
  spec: Pick<WorkSpec<Payload>, "kind" | "versions">,
  version: number,
  payload: unknown,
): Payload {
  const schema = Object.hasOwn(spec.versions, version) ? spec.versions[version] : undefined;
  if (schema === undefined) throw permanent("work_version_unknown", { kind: spec.kind, version });
  const parsed = schema.safeParse(payload);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map(({ path, message }) => ({
    field: path.join(".") || "payload",
    reason: message,
  }));
  throw permanent("work_payload_invalid", { faults });
}

/** What an error says to an operator: its code's text and the fields, no content. */
export function describe({ message, details }: Pick<AppError, "message" | "details">): string {
  const { faults, version } = details;
  if (typeof version === "number") return `${message}: ${version}`;
  if (!Array.isArray(faults)) return message;
  const fields = (faults as readonly FieldFault[]).map(
    ({ field, reason }) => `${field}: ${reason}`,
  );
  return `${message}. ${fields.join("; ")}`;
}
