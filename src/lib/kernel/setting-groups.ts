import type { FieldFault } from "./errors.ts";

/** The settings that are there, by name. */
type Present = Readonly<Record<string, string>>;

/** Settings that need each other and are not all there. Judged by presence, so that they show with all other faults. */
export const incompleteGroups = (present: Present): readonly FieldFault[] =>
  [redisFaults, entraFaults, embedderFaults, mailFaults].flatMap((faultsOf) => faultsOf(present));

/** Either Redis will do: `REDIS_URL`, or both settings of Upstash. */
function redisFaults(present: Present): FieldFault[] {
  if ("REDIS_URL" in present) return [];
  const absent = ["UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN"].filter(
    (name) => !(name in present),
  );
  return absent.map((field) => ({ field, reason: "is missing (or set REDIS_URL)" }));
}

function embedderFaults(present: Present): FieldFault[] {
  const isComplete = present["EMBEDDER"] !== "azure-openai" || "AZURE_OPENAI_ENDPOINT" in present;
  const reason = "is missing (or set EMBEDDER to lex-hash-v1)";
  return isComplete ? [] : [{ field: "AZURE_OPENAI_ENDPOINT", reason }];
}

/** One without the other would let nobody in, and nobody would know why. */
function entraFaults(present: Present): FieldFault[] {
  const absent = ["ENTRA_TENANT_ID", "ENTRA_AUDIENCE"].filter((name) => !(name in present));
  if (absent.length !== 1) return [];
  return absent.map((field) => ({ field, reason: "is missing (or unset both ENTRA_ settings)" }));
}

/** Somebody is to be mailed, and there is no way to, or nobody to do it. */
function mailFaults(present: Present): FieldFault[] {
  const wanting = ["ALERT_EMAIL_TO", "REPORT_EMAIL_TO"].filter((name) => name in present);
  if (wanting.length === 0) return [];
  return ["SMTP_URL", "ALERT_EMAIL_FROM"]
    .filter((name) => !(name in present))
    .map((field) => ({ field, reason: `is missing (or unset ${wanting.join(" and ")})` }));
}
