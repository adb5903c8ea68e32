import { z } from "zod";
import { type ApiKey, parseApiKeys } from "./api-keys.ts";
import { NcrontabError, parseNcrontab } from "./ncrontab.ts";

/** The kinds of values that settings have. A refusal says what would be right, and never the value. */

export const integer = (min: number, max: number, fallback: number) =>
  z
    .string()
    .regex(/^\d{1,16}$/, "must be a whole number")
    .transform(Number)
    .refine((n) => n >= min && n <= max, `must be between ${min} and ${max}`)
    .default(fallback);

const TRUE = new Set(["true", "1", "yes", "on"]);
const FALSE = new Set(["false", "0", "no", "off"]);
export const boolean = (fallback: boolean) =>
  z
    .string()
    .transform((text) => text.toLowerCase())
    .refine((text) => TRUE.has(text) || FALSE.has(text), "must be true or false")
    .transform((text) => TRUE.has(text))
    .default(fallback);

/** Five or six fields in UTC; the message names the position, the field and the reason. */
export const schedule = (fallback: string) =>
  z.string().superRefine(refuseBadSchedule).default(fallback);

function refuseBadSchedule(text: string, context: z.RefinementCtx): void {
  try {
    parseNcrontab(text);
  } catch (error) {
    if (!(error instanceof NcrontabError)) throw error;
    const at = error.position === 0 ? "" : `field ${error.position}: `;
    context.addIssue({ code: "custom", message: `not a schedule: ${at}${error.reason}` });
  }
}

export const webUrl = z.url({ protocol: /^https?$/, error: "must be an http or https URL" });

/** One Redis, or nodes of a cluster separated by commas. A password may contain one: a new URL starts with its scheme. */
export const redisUrls = z
  .string()
  .refine(
    (text) => text.split(/,\s*(?=rediss?:\/\/)/).every((url) => isRedisUrl(url.trim())),
    "must be redis:// or rediss:// URLs with a host and at most a database number, several separated by commas",
  );

function isRedisUrl(text: string): boolean {
  if (!/^rediss?:\/\/\S+$/.test(text) || !URL.canParse(text)) return false;
  const { hostname, pathname } = new URL(text);
  return hostname !== "" && /^(\/\d{0,3})?$/.test(pathname);
}

export const connectionString = z
  .string()
  .regex(
    /(^|;)\s*(UseDevelopmentStorage=true|AccountName=|QueueEndpoint=)/i,
    "must be the connection string of a storage account",
  );

export const apiKeys = z.string().transform((text, context): readonly ApiKey[] => {
  const parsed = parseApiKeys(text);
  if (parsed.kind === "keys") return parsed.keys;
  context.addIssue({ code: "custom", message: parsed.reason });
  return z.NEVER;
});

export const audiences = z
  .string()
  .transform((text) => text.split(/[\s,]+/).filter((audience) => audience !== ""))
  .refine(
    (list) => list.length > 0 && list.every((audience) => /^[\w:/.~-]{1,200}$/.test(audience)),
    "must be a client id, an application id URI, or both, separated by a comma",
  );

/** Written as browsers send them: in lower case, without the port that the scheme implies. */
export const origins = z
  .string()
  .transform((text) => text.split(/[\s,]+/).filter((origin) => origin !== ""))
  .refine(
    (list) => list.every((text) => /^https?:\/\/[^/\s*@?#]+\/?$/i.test(text) && URL.canParse(text)),
    "must be origins such as https://app.example.com, separated by commas; no path, no wildcard",
  )
  .transform((list) => list.map((text) => new URL(text).origin));

/** The key of a deployment travels in a header: in the clear only to this machine. */
export const secureUrl = z
  .string()
  .refine(
    (text) =>
      URL.canParse(text) && /^(https:\/\/|http:\/\/(localhost|127\.0\.0\.1)(:|\/|$))/i.test(text),
    "must be an https URL",
  );

/** Switches a lane of the older producers off. */
export const OFF = "off";

export const counterPattern = z
  .string()
  .refine(
    (text) => text === OFF || /^[^*?[\]\\]*\*[^*?[\]\\]+\*$/.test(text),
    "must be off, or prefix*name* with two stars and no other wildcard",
  );

/** Buckets and containers; a list, because the account also holds what no document is. */
export const containers = z
  .string()
  .transform((text) => text.split(",").map((name) => name.trim()))
  .refine(
    (list) => list.every((name) => /^[a-z0-9](?:[a-z0-9_-]{1,61})[a-z0-9]$/.test(name)),
    "must be names of buckets or containers separated by commas",
  );

export const tenants = z
  .string()
  .transform((text) => text.split(",").map((tenant) => tenant.trim()))
  .refine((list) => list.every((tenant) => tenant !== ""), "must be tenants separated by commas");

export const container = z
  .string()
  .regex(/^(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/, "must be the name of a blob container");

export const smtpUrl = z
  .string()
  .refine(
    (text) => /^smtps?:\/\/[^\s/]+(:\d{1,5})?\/?(\?\S*)?$/.test(text) && URL.canParse(text),
    "must be smtp:// or smtps:// with a host, and user and password where the server asks for them",
  );

/** Loose on purpose: the mail server judges. Nothing that could start a header of its own. */
const MAIL_ADDRESS = /^[^\s@<>(),;:"]{1,64}@[^\s@<>(),;:"]{1,190}$/;
export const mailAddress = z.string().regex(MAIL_ADDRESS, "must be a mail address");

const MAIL_ADDRESSES_MAX = 20;
export const mailAddresses = z
  .string()
  .transform((text) => text.split(/[\s,]+/).filter((address) => address !== ""))
  .refine(
    (list) =>
      list.length <= MAIL_ADDRESSES_MAX && list.every((address) => MAIL_ADDRESS.test(address)),
    "must be at most 20 mail addresses separated by commas",
  );
