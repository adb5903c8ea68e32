import { z } from "zod";
import type { ApiKey } from "./lib/kernel/api-keys.ts";
import { AppError, type FieldFault } from "./lib/kernel/errors.ts";
import { incompleteGroups } from "./lib/kernel/setting-groups.ts";
import {
  apiKeys,
  audiences,
  boolean,
  connectionString,
  container,
  containers,
  counterPattern,
  integer,
  mailAddress,
  mailAddresses,
  OFF,
  origins,
  redisUrls,
  schedule,
  secureUrl,
  smtpUrl,
  tenants,
  webUrl,
} from "./lib/kernel/setting-kinds.ts";

/** What the platform leaves in a setting when a Key Vault reference could not be resolved. */
const UNRESOLVED_REFERENCE = /^@Microsoft\.KeyVault\(/i;

/**
 * Every setting of the service: the name is public interface, an empty value counts as absent. Each has a row in
 * `docs/reference/settings.md` and in `local.settings.example.json`; a test compares them.
 */
export const SETTINGS = z.object({
  SERVICE_NAME: z
    .string()
    .regex(/^[a-z0-9-]{1,60}$/, "must be lower-case letters, digits and hyphens")
    .default("worker-service"),
  ENVIRONMENT: z
    .string()
    .toLowerCase()
    .regex(/^[a-z0-9-]{1,30}$/, "must be lower-case letters, digits and hyphens")
    .default("production"),
  AzureWebJobsStorage: connectionString,
  SUPABASE_URL: webUrl,
  SUPABASE_KEY: z.string().min(20, "must be the service role key"),
  REDIS_URL: redisUrls.optional(),
  UPSTASH_REDIS_REST_URL: webUrl.optional(),
  UPSTASH_REDIS_REST_TOKEN: z.string().optional(),
  API_KEYS: apiKeys.default([]),
  CORS_ORIGINS: origins.default([]),
  ENTRA_TENANT_ID: z.guid("must be the id of a directory, a GUID").toLowerCase().optional(),
  ENTRA_AUDIENCE: audiences.optional(),
  ENABLE_USAGE_TRACKING: boolean(true),
  RECONCILIATION_SCHEDULE_DAILY: schedule("0 2 * * *"),
  RECONCILIATION_SCHEDULE_WEEKLY: schedule("0 3 * * 0"),
  RECONCILIATION_SCHEDULE_MONTHLY: schedule("0 4 1 * *"),
  USAGE_OBSERVE_SCHEDULE: schedule("0 * * * * *"),
  USAGE_REPAIR_AUTO_MAX: integer(0, 100_000_000_000_000, 1_000_000),
  USAGE_BATCH_MAX: integer(100, 10_000, 8000),
  USAGE_SLICE_MS: integer(1000, 480_000, 240_000),
  USAGE_LEASE_TTL_MS: integer(5000, 900_000, 300_000),
  USAGE_RETAIN_HOURS: integer(24, 720, 48),
  USAGE_ALERT_SCHEDULE: schedule("30 */5 * * * *"),
  USAGE_PERIOD_GRACE_HOURS: integer(0, 744, 72),
  USAGE_EVENT_RETAIN_DAYS: integer(40, 400, 90),
  USAGE_LEGACY_PENDING_KEY: z
    .string()
    .max(500, "must have at most 500 characters")
    .default("system:pending_token_reconciliation"),
  USAGE_LEGACY_COUNTER_PATTERN: counterPattern.default("*:counter:token_usage:type:*"),
  USAGE_LEGACY_COUNTER_DETAIL: z
    .enum(["beside", "part"], "must be beside or part")
    .default("beside"),
  USAGE_LEGACY_COUNTER_TENANTS: tenants.default([]),
  DOCUMENT_CONTAINERS: containers.default(["documents"]),
  DOCUMENT_BYTES_MAX: integer(1024, 26_214_400, 26_214_400),
  EMBEDDER: z
    .enum(["lex-hash-v1", "azure-openai"], "must be lex-hash-v1 or azure-openai")
    .default("lex-hash-v1"),
  AZURE_OPENAI_ENDPOINT: secureUrl.optional(),
  AZURE_OPENAI_EMBEDDING_DEPLOYMENT: z
    .string()
    .regex(/^[\w.-]{1,64}$/, "must be letters, digits, hyphens, underscores and points")
    .default("text-embedding-3-small"),
  AZURE_OPENAI_API_KEY: z.string().max(200, "must have at most 200 characters").optional(),
  AZURE_OPENAI_EMBEDDING_TPM: integer(10_000, 100_000_000, 120_000),
  WORK_SWEEP_SCHEDULE: schedule("10 * * * * *"),
  JOB_LEASE_MS: integer(3000, 300_000, 60_000),
  DOCUMENT_SWEEP_SCHEDULE: schedule("40 */5 * * * *"),
  CLEANUP_SCHEDULE: schedule("0 * * * *"),
  HEALTH_CHECK_SCHEDULE: schedule("* * * * *"),
  DAILY_REPORTS_SCHEDULE: schedule("0 6 * * *"),
  WEEKLY_EXPORT_SCHEDULE: schedule("0 2 * * 0"),
  EXPORT_FORMAT: z.enum(["ndjson", "csv"], "must be ndjson or csv").default("ndjson"),
  EXPORT_CONTAINER: container.default("worker-exports"),
  EXPORT_RETAIN_DAYS: integer(14, 4000, 400),
  REPORT_RETAIN_DAYS: integer(7, 4000, 400),
  REPORT_EMAIL_TO: mailAddresses.default([]),
  JOB_RUN_RETAIN_DAYS: integer(1, 400, 30),
  JOB_RUNS_KEPT: integer(10, 10_000, 200),
  WORK_RETAIN_DAYS: integer(1, 400, 30),
  WORK_DEAD_RETAIN_DAYS: integer(1, 800, 90),
  ALERT_RETAIN_DAYS: integer(7, 400, 400),
  ALERT_EMAIL_TO: mailAddresses.default([]),
  ALERT_EMAIL_FROM: mailAddress.optional(),
  ALERT_RUNBOOK_URL: webUrl.optional(),
  SLACK_WEBHOOK_URL: secureUrl.optional(),
  TEAMS_WEBHOOK_URL: secureUrl.optional(),
  SMTP_URL: smtpUrl.optional(),
  QUEUE_AGE_WARN_SECONDS: integer(30, 604_800, 900),
  QUEUE_CANARY_MINUTES: integer(0, 1440, 15),
  RECONCILIATION_ALERT_THRESHOLD: integer(1, 1_000_000_000_000, 1000),
  RECONCILIATION_CRITICAL_THRESHOLD: integer(1, 1_000_000_000_000, 5000),
});

type Settings = z.infer<typeof SETTINGS>;
export type SettingName = keyof Settings;
export type ScheduleSetting = Extract<SettingName, `${string}SCHEDULE${string}`>;
type Environment = Readonly<Record<string, string | undefined>>;

export interface Config {
  /** Of every timer, by the name of its setting. */
  readonly schedules: Readonly<Record<ScheduleSetting, string>>;
  readonly serviceName: string;
  readonly environment: string;
  readonly storage: { readonly connectionString: string };
  readonly supabase: { readonly url: string; readonly key: string };
  /** `redisUrl` wins when both are set. */
  readonly redis: {
    readonly redisUrl?: string;
    readonly upstash?: { readonly url: string; readonly token: string };
  };
  readonly http: {
    readonly apiKeys: readonly ApiKey[];
    readonly corsOrigins: readonly string[];
    /** Whose access tokens are taken beside keys. */
    readonly entra?: { readonly tenantId: string; readonly audiences: readonly string[] };
  };
  /** How long a run may be silent before others take it. */
  readonly jobs: { readonly leaseMs: number };
  readonly usage: {
    readonly isTrackingEnabled: boolean;
    readonly dailySchedule: string;
    /** Records that one SQL call books at the most. */
    readonly batchMax: number;
    /** How long one shard message works before it hands on to its continuation. */
    readonly sliceMs: number;
    readonly leaseTtlMs: number;
    /** How long Redis keeps entries after they were booked. */
    readonly retainHours: number;
    /** How long a month waits for late uses after its end. */
    readonly periodGraceHours: number;
    /** How long Postgres keeps events. */
    readonly eventRetainDays: number;
    /** Tokens; a larger difference between counter and ledger is repaired only when a person approves. */
    readonly repairAutoMax: number;
    /** Drift in tokens, and records of the legacy pending set, that warn and that are critical. */
    readonly alertThreshold: number;
    readonly criticalThreshold: number;
  };
  readonly documents: {
    /** Buckets and containers that documents may lie in. */
    readonly containers: readonly string[];
    /** Of one stored file. */
    readonly bytesMax: number;
  };
  /** Without `azureOpenAi` texts are embedded offline. */
  readonly embedder: {
    readonly azureOpenAi?: {
      readonly endpoint: string;
      readonly deployment: string;
      /** Without one the identity of the app signs in. */
      readonly apiKey?: string;
      readonly tokensPerMinute: number;
    };
  };
  /** What the service does for its operators. */
  readonly ops: {
    readonly exports: { readonly format: "ndjson" | "csv"; readonly container: string };
    /** Days; what is live is kept whatever they say. */
    readonly retainDays: {
      readonly runs: number;
      readonly work: number;
      readonly deadWork: number;
      readonly alerts: number;
      readonly reports: number;
      readonly exports: number;
    };
    /** Of each job, however old. */
    readonly runsKept: number;
    readonly queueAgeWarnSeconds: number;
    /** 0 = no canaries. */
    readonly canaryMinutes: number;
    readonly slackUrl?: string;
    readonly teamsUrl?: string;
    readonly docsUrl?: string;
    /** Without one nothing is mailed. */
    readonly smtp?: { readonly url: string; readonly from: string };
    readonly alertMailTo: readonly string[];
    readonly reportMailTo: readonly string[];
  };
  /** Producers that do not use the log yet. Without a key or pattern that lane is off. */
  readonly legacyUsage: {
    readonly pendingKey?: string;
    readonly counterPattern?: string;
    readonly counterDetail: "beside" | "part";
    /** Tenants whose counters are booked, because they have no other lane. */
    readonly counterTenants: readonly string[];
  };
}

/**
 * Judges every setting at once.
 *
 * @throws AppError `config_invalid` whose message names every bad setting and no value.
 */
export function loadConfig(env: Environment = process.env): Config {
  const present = presentSettings(env);
  const parsed = SETTINGS.safeParse(present);
  const faults = [
    ...unresolvedReferences(present),
    ...(parsed.success ? [] : schemaFaults(parsed.error, present)),
    ...incompleteGroups(present),
  ];
  if (!parsed.success || faults.length > 0) throw configInvalid(faults);
  return toConfig(parsed.data);
}

/**
 * The schedule of a timer at registration: the setting as it is, or its documented default. Never throws, because a
 * throw before the first registration looks to the host like an app without functions; `loadConfig` judges it a
 * moment later.
 */
export function scheduleOf(name: ScheduleSetting, env: Environment = process.env): string {
  const given = env[name]?.trim();
  if (given) return given;
  return SETTINGS.shape[name].parse(undefined);
}

/** Names that start like ours; the platform and other services use other prefixes. */
const OWN_PREFIXES = [
  "RECONCILIATION_",
  "USAGE_",
  "ENABLE_USAGE",
  "API_KEYS",
  "CORS_",
  "DOCUMENT_",
  "EMBEDDER",
  "AZURE_OPENAI_",
  "ENTRA_",
  "UPSTASH_REDIS_",
  "ALERT_",
  "EXPORT_",
  "REPORT_",
  "JOB_RUN",
  "WORK_",
  "QUEUE_",
];

/**
 * Settings that look like ours but are none, for a warning at the start: most are a misspelt name. A warning and not
 * an error, because a rolled-back version must start with the settings of the newer one.
 */
export function unknownSettings(env: Environment = process.env): string[] {
  const known = new Set(Object.keys(SETTINGS.shape));
  const looksOwn = (name: string) => OWN_PREFIXES.some((prefix) => name.startsWith(prefix));
  return Object.keys(env)
    .filter((name) => looksOwn(name) && !known.has(name))
    .sort();
}

function presentSettings(env: Environment): Record<string, string> {
  const names = Object.keys(SETTINGS.shape);
  const entries = names.flatMap((name) => {
    const value = env[name]?.trim();
    return value ? [[name, value] as const] : [];
  });
  return Object.fromEntries(entries);
}

function unresolvedReferences(present: Readonly<Record<string, string>>): FieldFault[] {
  return Object.entries(present)
    .filter(([, value]) => UNRESOLVED_REFERENCE.test(value))
    .map(([field]) => ({ field, reason: "the Key Vault reference was not resolved" }));
}

function schemaFaults(error: z.ZodError, present: Readonly<Record<string, string>>): FieldFault[] {
  return error.issues
    .map((issue) => ({ field: String(issue.path[0]), reason: issue.message }))
    .filter(({ field }) => !UNRESOLVED_REFERENCE.test(present[field] ?? ""))
    .map(({ field, reason }) => ({ field, reason: field in present ? reason : "is missing" }));
}

function configInvalid(faults: readonly FieldFault[]): AppError {
  const lines = faults.map(({ field, reason }) => `  ${field}: ${reason}`);
  const message = `The configuration is not valid. See docs/reference/settings.md.\n${lines.join("\n")}`;
  return new AppError("permanent", "config_invalid", { details: { faults }, message });
}

function toConfig(s: Settings): Config {
  const { REDIS_URL: redisUrl, UPSTASH_REDIS_REST_URL: url, UPSTASH_REDIS_REST_TOKEN: token } = s;
  const { USAGE_LEGACY_PENDING_KEY: pendingKey, USAGE_LEGACY_COUNTER_PATTERN: pattern } = s;
  const { ENTRA_TENANT_ID: tenantId, ENTRA_AUDIENCE: audiences } = s;
  const hasUpstash = url !== undefined && token !== undefined;
  return deepFreeze<Config>({
    schedules: schedulesOf(s),
    serviceName: s.SERVICE_NAME,
    environment: s.ENVIRONMENT,
    storage: { connectionString: s.AzureWebJobsStorage },
    supabase: { url: s.SUPABASE_URL, key: s.SUPABASE_KEY },
    redis: {
      ...(redisUrl === undefined ? {} : { redisUrl }),
      ...(hasUpstash ? { upstash: { url, token } } : {}),
    },
    http: {
      apiKeys: s.API_KEYS,
      corsOrigins: s.CORS_ORIGINS,
      ...(tenantId && audiences ? { entra: { tenantId, audiences } } : {}),
    },
    jobs: { leaseMs: s.JOB_LEASE_MS },
    usage: {
      isTrackingEnabled: s.ENABLE_USAGE_TRACKING,
      dailySchedule: s.RECONCILIATION_SCHEDULE_DAILY,
      batchMax: s.USAGE_BATCH_MAX,
      sliceMs: s.USAGE_SLICE_MS,
      leaseTtlMs: s.USAGE_LEASE_TTL_MS,
      retainHours: s.USAGE_RETAIN_HOURS,
      periodGraceHours: s.USAGE_PERIOD_GRACE_HOURS,
      eventRetainDays: s.USAGE_EVENT_RETAIN_DAYS,
      repairAutoMax: s.USAGE_REPAIR_AUTO_MAX,
      alertThreshold: s.RECONCILIATION_ALERT_THRESHOLD,
      criticalThreshold: s.RECONCILIATION_CRITICAL_THRESHOLD,
    },
    embedder: embedderOf(s),
    documents: { containers: s.DOCUMENT_CONTAINERS, bytesMax: s.DOCUMENT_BYTES_MAX },
    ops: opsOf(s),
    legacyUsage: {
      ...(pendingKey === OFF ? {} : { pendingKey }),
      ...(pattern === OFF ? {} : { counterPattern: pattern }),
      counterDetail: s.USAGE_LEGACY_COUNTER_DETAIL,
      counterTenants: s.USAGE_LEGACY_COUNTER_TENANTS,
    },
  });
}

function embedderOf(s: Settings): Config["embedder"] {
  const { AZURE_OPENAI_ENDPOINT: endpoint, AZURE_OPENAI_API_KEY: apiKey } = s;
  if (s.EMBEDDER !== "azure-openai" || endpoint === undefined) return {};
  const azureOpenAi = {
    endpoint,
    deployment: s.AZURE_OPENAI_EMBEDDING_DEPLOYMENT,
    ...(apiKey === undefined ? {} : { apiKey }),
    tokensPerMinute: s.AZURE_OPENAI_EMBEDDING_TPM,
  };
  return { azureOpenAi };
}

function opsOf(s: Settings): Config["ops"] {
  const { SMTP_URL: url, ALERT_EMAIL_FROM: from } = s;
  return {
    exports: { format: s.EXPORT_FORMAT, container: s.EXPORT_CONTAINER },
    retainDays: {
      runs: s.JOB_RUN_RETAIN_DAYS,
      work: s.WORK_RETAIN_DAYS,
      deadWork: s.WORK_DEAD_RETAIN_DAYS,
      alerts: s.ALERT_RETAIN_DAYS,
      reports: s.REPORT_RETAIN_DAYS,
      exports: s.EXPORT_RETAIN_DAYS,
    },
    runsKept: s.JOB_RUNS_KEPT,
    queueAgeWarnSeconds: s.QUEUE_AGE_WARN_SECONDS,
    canaryMinutes: s.QUEUE_CANARY_MINUTES,
    ...(s.SLACK_WEBHOOK_URL === undefined ? {} : { slackUrl: s.SLACK_WEBHOOK_URL }),
    ...(s.TEAMS_WEBHOOK_URL === undefined ? {} : { teamsUrl: s.TEAMS_WEBHOOK_URL }),
    ...(s.ALERT_RUNBOOK_URL === undefined ? {} : { docsUrl: s.ALERT_RUNBOOK_URL }),
    ...(url !== undefined && from !== undefined ? { smtp: { url, from } } : {}),
    alertMailTo: s.ALERT_EMAIL_TO,
    reportMailTo: s.REPORT_EMAIL_TO,
  };
}

function schedulesOf(settings: Settings): Record<ScheduleSetting, string> {
  const entries = Object.entries(settings).filter(([name]) => name.includes("SCHEDULE"));
  return Object.fromEntries(entries) as Record<ScheduleSetting, string>; // the name is what makes it one
}

function deepFreeze<T extends object>(value: T): T {
  for (const part of Object.values(value)) {
    if (typeof part === "object" && part !== null && !Object.isFrozen(part)) deepFreeze(part);
  }
  return Object.freeze(value);
}
