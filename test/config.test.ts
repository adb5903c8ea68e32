import { describe, expect, test, vi } from "vitest";
import {
  loadConfig,
  SETTINGS,
  type SettingName,
  scheduleOf,
  unknownSettings,
} from "../src/config.ts";
import { AppError, type FieldFault } from "../src/lib/kernel/errors.ts";

type Env = Record<string, string | undefined>;

/** What no deployment can do without. */
const NEEDED: Env = {
  AzureWebJobsStorage: "UseDevelopmentStorage=true",
  SUPABASE_URL: "https://project.supabase.co",
  SUPABASE_KEY: "a-service-role-key-of-some-length",
  REDIS_URL: "redis://127.0.0.1:6379",
};
const with_ = (env: Env): Env => ({ ...NEEDED, ...env });
/** Who is to be mailed needs these two. */
const MAIL: Env = { SMTP_URL: "smtp://127.0.0.1:25", ALERT_EMAIL_FROM: "worker@example.com" };
const withMail = (name: string, value: string): Env =>
  with_({ ...(name.endsWith("EMAIL_TO") ? MAIL : {}), [name]: value });
const HASH_A = "a".repeat(64);
const HASH_B = "b".repeat(64);

function errorOf(env: Env): AppError {
  try {
    loadConfig(env);
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
  throw new Error("the configuration was accepted");
}

const faultsOf = (env: Env): readonly FieldFault[] =>
  errorOf(env).details["faults"] as readonly FieldFault[];
const refusedNames = (env: Env): string[] => faultsOf(env).map(({ field }) => field);
const reasonOf = (name: string, env: Env): string | undefined =>
  faultsOf(env).find(({ field }) => field === name)?.reason;

/** Reviewed by hand: what an operator may write, and what holds when nothing is written. */
const REVIEWED: Record<
  SettingName,
  { default?: unknown; accepts: readonly string[]; refuses: readonly string[] }
> = {
  SERVICE_NAME: {
    default: "worker-service",
    accepts: ["w", "worker-2", "a".repeat(60)],
    refuses: ["Worker", "worker service", "worker_2", "a".repeat(61)],
  },
  ENVIRONMENT: {
    default: "production",
    accepts: ["staging", "Production", "a".repeat(30)],
    refuses: ["a b", "a".repeat(31)],
  },
  AzureWebJobsStorage: {
    accepts: [
      "UseDevelopmentStorage=true",
      "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=eA==;EndpointSuffix=core.windows.net",
      "QueueEndpoint=https://a.queue.core.windows.net;SharedAccessSignature=sv=1",
    ],
    refuses: ["storage", "https://a.queue.core.windows.net"],
  },
  SUPABASE_URL: {
    accepts: ["https://project.supabase.co", "http://127.0.0.1:54321/path"],
    refuses: ["project.supabase.co", "ftp://project.supabase.co", "https://"],
  },
  SUPABASE_KEY: { accepts: ["k".repeat(20)], refuses: ["k".repeat(19)] },
  REDIS_URL: {
    accepts: [
      "redis://localhost",
      "redis://localhost:6379/0",
      "rediss://user:pass@cache.example.com:6380/15",
      "redis://[::1]:6379",
      "redis://:a,b@one:1,redis://two:2, redis://three:3",
      "rediss://default:secret@node:6379?cluster=true",
    ],
    refuses: [
      "localhost:6379",
      "http://localhost:6379",
      "redis://",
      "redis://host:99999",
      "redis://host/zero",
      "redis://a b",
      "redis://one:1,redis://",
    ],
  },
  UPSTASH_REDIS_REST_URL: {
    accepts: ["https://some-name.upstash.io"],
    refuses: ["some-name.upstash.io", "rediss://some-name.upstash.io"],
  },
  UPSTASH_REDIS_REST_TOKEN: { accepts: ["AX_any"], refuses: [] },
  API_KEYS: {
    default: [],
    accepts: [
      `ops:admin:sha256:${HASH_A}`,
      `ops:admin:sha256:${HASH_A.toUpperCase()}`,
      `a:viewer:sha256:${HASH_A},\n b:operator:sha256:${HASH_B}`,
    ],
    refuses: [
      "secret",
      `ops:root:sha256:${HASH_A}`,
      `a:viewer:sha256:${HASH_A} b:admin:sha256:${HASH_A}`,
    ],
  },
  CORS_ORIGINS: {
    default: [],
    accepts: ["https://app.example.com", "https://a.example.com, http://localhost:3000/"],
    refuses: [
      "*",
      "https://*.example.com",
      "app.example.com",
      "https://a.example.com/path",
      "null",
    ],
  },
  ENTRA_TENANT_ID: { accepts: [], refuses: [] }, // one of a pair: see below
  ENTRA_AUDIENCE: { accepts: [], refuses: [] },
  ENABLE_USAGE_TRACKING: {
    default: true,
    accepts: ["true", "True", "TRUE", "1", "yes", "on", "false", "False", "0", "no", "off"],
    refuses: ["2", "enabled", "y"],
  },
  RECONCILIATION_SCHEDULE_DAILY: {
    default: "0 2 * * *",
    accepts: ["0 2 * * *", "0 0 2 * * *", "*/10 * * * *", "15 30 1-5 * * MON-FRI"],
    refuses: ["daily", "0 24 * * *", "0 2 * *", "@daily", "0 2 * * 7"],
  },
  RECONCILIATION_SCHEDULE_WEEKLY: {
    default: "0 3 * * 0",
    accepts: ["0 3 * * 0", "0 0 3 * * SUN"],
    refuses: ["weekly", "0 3 * *"],
  },
  RECONCILIATION_SCHEDULE_MONTHLY: {
    default: "0 4 1 * *",
    accepts: ["0 4 1 * *", "0 0 4 1 * *"],
    refuses: ["monthly", "0 4 32 * *"],
  },
  USAGE_ALERT_SCHEDULE: {
    default: "30 */5 * * * *",
    accepts: ["30 */5 * * * *", "*/10 * * * *"],
    refuses: ["often", "* * * *"],
  },
  DOCUMENT_SWEEP_SCHEDULE: {
    default: "40 */5 * * * *",
    accepts: ["40 */5 * * * *", "*/10 * * * *"],
    refuses: ["often", "* * * *"],
  },
  WORK_SWEEP_SCHEDULE: {
    default: "10 * * * * *",
    accepts: ["10 * * * * *", "* * * * * *"],
    refuses: ["minutely", "60 * * * * *"],
  },
  JOB_LEASE_MS: {
    default: 60_000,
    accepts: ["3000", "300000"],
    refuses: ["2999", "300001", "1e4", "a minute"],
  },
  USAGE_OBSERVE_SCHEDULE: {
    default: "0 * * * * *",
    accepts: ["0 * * * * *", "*/5 * * * *"],
    refuses: ["minutely", "60 * * * * *"],
  },
  USAGE_REPAIR_AUTO_MAX: {
    default: 1_000_000,
    accepts: ["0", "100000000000000"],
    refuses: ["-1", "100000000000001", "1e6"],
  },
  USAGE_BATCH_MAX: {
    default: 8000,
    accepts: ["100", "10000"],
    refuses: ["99", "10001", "4000.5", "1e3", "-100", "many"],
  },
  USAGE_SLICE_MS: {
    default: 240_000,
    accepts: ["1000", "480000"],
    refuses: ["999", "480001", "1s"],
  },
  USAGE_LEASE_TTL_MS: {
    default: 300_000,
    accepts: ["5000", "900000"],
    refuses: ["4999", "900001"],
  },
  USAGE_RETAIN_HOURS: { default: 48, accepts: ["24", "720"], refuses: ["23", "721"] },
  USAGE_PERIOD_GRACE_HOURS: { default: 72, accepts: ["0", "744"], refuses: ["-1", "745"] },
  USAGE_EVENT_RETAIN_DAYS: { default: 90, accepts: ["40", "400"], refuses: ["39", "401"] },
  USAGE_LEGACY_PENDING_KEY: {
    default: "system:pending_token_reconciliation",
    accepts: ["off", "cache:system:pending_token_reconciliation", "k".repeat(500)],
    refuses: ["k".repeat(501)],
  },
  USAGE_LEGACY_COUNTER_PATTERN: {
    default: "*:counter:token_usage:type:*",
    accepts: ["off", "*:counter:*", "cache:*:counter:token_usage:type:*"],
    refuses: ["*", "**", "counter", "*:counter", "*:a*b*", "*:counter:?*", "[a]*:counter:*"],
  },
  USAGE_LEGACY_COUNTER_DETAIL: {
    default: "beside",
    accepts: ["beside", "part"],
    refuses: ["both", "Beside"],
  },
  USAGE_LEGACY_COUNTER_TENANTS: {
    default: [],
    accepts: ["acme", "acme, 7c9e6679-7425-40de-944b-e07fc1f90ae7"],
    refuses: ["acme,,beta", ",acme"],
  },
  DOCUMENT_CONTAINERS: {
    default: ["documents"],
    accepts: ["documents", "uploads, kb-files"],
    refuses: ["Documents", "a", "documents;uploads", "../azure-webjobs"],
  },
  DOCUMENT_BYTES_MAX: {
    default: 26_214_400,
    accepts: ["1024", "26214400"],
    refuses: ["0", "26214401", "25MB"],
  },
  EMBEDDER: {
    default: "lex-hash-v1",
    accepts: ["lex-hash-v1"],
    refuses: ["lex-hash", "openai", "Azure-OpenAI"],
  },
  AZURE_OPENAI_ENDPOINT: {
    default: undefined,
    accepts: ["https://name.openai.azure.com", "http://127.0.0.1:8080", "http://localhost/"],
    refuses: ["http://name.openai.azure.com", "name.openai.azure.com", "http://127.0.0.1.evil.com"],
  },
  AZURE_OPENAI_EMBEDDING_DEPLOYMENT: {
    default: "text-embedding-3-small",
    accepts: ["embed_2", "text-embedding-3-small"],
    refuses: ["a/b", "d".repeat(65), "with space"],
  },
  AZURE_OPENAI_API_KEY: { default: undefined, accepts: ["0123abcd"], refuses: ["k".repeat(201)] },
  AZURE_OPENAI_EMBEDDING_TPM: {
    default: 120_000,
    accepts: ["10000", "100000000"],
    refuses: ["9999", "100000001", "120k"],
  },
  CLEANUP_SCHEDULE: { default: "0 * * * *", accepts: ["30 * * * *"], refuses: ["hourly"] },
  HEALTH_CHECK_SCHEDULE: {
    default: "* * * * *",
    accepts: ["*/5 * * * *", "0 * * * * *"],
    refuses: ["always"],
  },
  DAILY_REPORTS_SCHEDULE: { default: "0 6 * * *", accepts: ["30 5 * * *"], refuses: ["6:00"] },
  WEEKLY_EXPORT_SCHEDULE: { default: "0 2 * * 0", accepts: ["0 2 * * SUN"], refuses: ["weekly"] },
  EXPORT_FORMAT: { default: "ndjson", accepts: ["csv"], refuses: ["parquet", "CSV"] },
  EXPORT_CONTAINER: {
    default: "worker-exports",
    accepts: ["abc", "a".repeat(63)],
    refuses: ["ab", "a".repeat(64), "Exports", "a--b", "-abc"],
  },
  EXPORT_RETAIN_DAYS: { default: 400, accepts: ["14", "4000"], refuses: ["13", "4001"] },
  REPORT_RETAIN_DAYS: { default: 400, accepts: ["7", "4000"], refuses: ["6", "4001"] },
  REPORT_EMAIL_TO: {
    default: [],
    accepts: ["boss@example.com", "a@example.com, b@example.com"],
    refuses: ["boss", "Boss <boss@example.com>", "a@b@c", Array(21).fill("a@b.c").join()],
  },
  JOB_RUN_RETAIN_DAYS: { default: 30, accepts: ["1", "400"], refuses: ["0", "401"] },
  JOB_RUNS_KEPT: { default: 200, accepts: ["10", "10000"], refuses: ["9", "10001"] },
  WORK_RETAIN_DAYS: { default: 30, accepts: ["1", "400"], refuses: ["0", "401"] },
  WORK_DEAD_RETAIN_DAYS: { default: 90, accepts: ["1", "800"], refuses: ["0", "801"] },
  ALERT_RETAIN_DAYS: { default: 400, accepts: ["7"], refuses: ["6", "401"] },
  ALERT_EMAIL_TO: { default: [], accepts: ["night@example.com"], refuses: ["night"] },
  ALERT_EMAIL_FROM: {
    default: undefined,
    accepts: ["worker@example.com"],
    refuses: ["worker", "worker@example.com\r\nBcc: thief@example.com"],
  },
  ALERT_RUNBOOK_URL: {
    default: undefined,
    accepts: ["https://git.example.com/worker/docs"],
    refuses: ["docs", "ftp://docs.example.com"],
  },
  SLACK_WEBHOOK_URL: {
    default: undefined,
    accepts: ["https://hooks.slack.com/services/T/B/x", "http://127.0.0.1:9/x"],
    refuses: ["hooks.slack.com/x", "http://hooks.slack.com/x"],
  },
  TEAMS_WEBHOOK_URL: {
    default: undefined,
    accepts: ["https://prod-1.westeurope.logic.azure.com/workflows/x"],
    refuses: ["teams", "http://teams.example.com/x"],
  },
  SMTP_URL: {
    default: undefined,
    accepts: ["smtp://127.0.0.1:25", "smtps://user:p%40ss@mail.example.com:465"],
    refuses: ["mail.example.com", "https://mail.example.com", "smtp://", "smtp://a:b"],
  },
  QUEUE_AGE_WARN_SECONDS: { default: 900, accepts: ["30", "604800"], refuses: ["29", "604801"] },
  QUEUE_CANARY_MINUTES: { default: 15, accepts: ["0", "1440"], refuses: ["-1", "1441"] },
  RECONCILIATION_ALERT_THRESHOLD: {
    default: 1000,
    accepts: ["1", "1000000000000"],
    refuses: ["0", "1000000000001", "-1", "1.5"],
  },
  RECONCILIATION_CRITICAL_THRESHOLD: {
    default: 5000,
    accepts: ["1", "1000000000000"],
    refuses: ["0", "1000000000001", "-1", "1.5"],
  },
};
const NAMES = Object.keys(SETTINGS.shape) as SettingName[];

describe("each setting", () => {
  test("is reviewed in this file", () => {
    expect(Object.keys(REVIEWED).sort()).toEqual([...NAMES].sort());
  });

  test.each(NAMES)("%s keeps its documented default", (name) => {
    const parsed = SETTINGS.shape[name].safeParse(undefined);
    if ("default" in REVIEWED[name]) expect(parsed.data).toEqual(REVIEWED[name].default);
    else expect(parsed.success && parsed.data !== undefined).toBe(false);
  });

  test.each(NAMES.flatMap((name) => REVIEWED[name].accepts.map((value) => [name, value] as const)))(
    "%s accepts %j",
    (name, value) => {
      expect(() => loadConfig(withMail(name, value))).not.toThrow();
    },
  );

  test.each(NAMES.flatMap((name) => REVIEWED[name].refuses.map((value) => [name, value] as const)))(
    "%s refuses %j",
    (name, value) => {
      expect(refusedNames(withMail(name, value))).toEqual([name]);
    },
  );

  test.each(NAMES)("%s counts as absent when it is empty or blank", (name) => {
    const absent = SETTINGS.shape[name].safeParse(undefined).success;
    for (const value of ["", "   ", "\t\n"]) {
      const env = with_({ [name]: value, ...(name === "REDIS_URL" ? UPSTASH : {}) });
      if (absent) expect(() => loadConfig(env)).not.toThrow();
      else expect(reasonOf(name, env)).toBe("is missing");
    }
  });

  test("loses white space around its value", () => {
    const config = loadConfig(with_({ SERVICE_NAME: " worker-2 ", USAGE_BATCH_MAX: "\t500\n" }));
    expect(config).toMatchObject({ serviceName: "worker-2", usage: { batchMax: 500 } });
  });
});

const UPSTASH = {
  UPSTASH_REDIS_REST_URL: "https://some-name.upstash.io",
  UPSTASH_REDIS_REST_TOKEN: "AX_secret_token",
};

describe("the embedder", () => {
  const AZURE = { EMBEDDER: "azure-openai", AZURE_OPENAI_ENDPOINT: "https://x.openai.azure.com" };

  test("works offline unless Azure OpenAI is chosen, whatever else is set", () => {
    expect(loadConfig(with_({})).embedder).toEqual({});
    expect(loadConfig(with_({ ...AZURE, EMBEDDER: "lex-hash-v1" })).embedder).toEqual({});
  });

  test("of Azure OpenAI signs in with the app's identity unless there is a key", () => {
    const azureOpenAi = {
      endpoint: "https://x.openai.azure.com",
      deployment: "text-embedding-3-small",
      tokensPerMinute: 120_000,
    };
    expect(loadConfig(with_(AZURE)).embedder).toEqual({ azureOpenAi });
    expect(loadConfig(with_({ ...AZURE, AZURE_OPENAI_API_KEY: "k" })).embedder).toEqual({
      azureOpenAi: { ...azureOpenAi, apiKey: "k" },
    });
  });

  test("of Azure OpenAI needs an endpoint", () => {
    expect(refusedNames(with_({ EMBEDDER: "azure-openai" }))).toEqual(["AZURE_OPENAI_ENDPOINT"]);
  });
});

describe("mails", () => {
  test.each(["ALERT_EMAIL_TO", "REPORT_EMAIL_TO"])("to %s need a server and a sender", (name) => {
    const to = { [name]: "ops@example.com" };
    expect(refusedNames(with_(to)).sort()).toEqual(["ALERT_EMAIL_FROM", "SMTP_URL"]);
    const { ops } = loadConfig(with_({ ...MAIL, ...to }));
    expect(ops.smtp).toEqual({ url: "smtp://127.0.0.1:25", from: "worker@example.com" });
  });
});

describe("a configuration that is not valid", () => {
  const BAD: Env = {
    SERVICE_NAME: "Not A Name",
    ENVIRONMENT: "not a name",
    AzureWebJobsStorage: "hunter2-storage",
    SUPABASE_URL: "hunter2.supabase.co",
    SUPABASE_KEY: "hunter2",
    REDIS_URL: "http://user:hunter2@cache",
    UPSTASH_REDIS_REST_URL: "hunter2.upstash.io",
    API_KEYS: "ops:admin:hunter2",
    CORS_ORIGINS: "https://hunter2.example.com/path",
    ENABLE_USAGE_TRACKING: "hunter2",
    RECONCILIATION_SCHEDULE_DAILY: "hunter2",
    USAGE_BATCH_MAX: "hunter2",
    USAGE_SLICE_MS: "hunter2",
    USAGE_LEASE_TTL_MS: "hunter2",
    USAGE_RETAIN_HOURS: "hunter2",
  };

  test("names every bad setting at once, each once", () => {
    const names = refusedNames(BAD);
    expect([...names].sort()).toEqual(Object.keys(BAD).sort());
    const { message } = errorOf(BAD);
    for (const name of Object.keys(BAD)) expect(message).toContain(`${name}: `);
  });

  test("never shows a value, not in the message, the details or the stack", () => {
    const error = errorOf(BAD);
    const shown = [error.message, error.stack, JSON.stringify(error.details), String(error.cause)];
    expect(shown.join("\n")).not.toMatch(/hunter2|Not A Name/);
  });

  test("names what is missing in an empty environment, Redis included", () => {
    expect(refusedNames({}).sort()).toEqual([
      "AzureWebJobsStorage",
      "SUPABASE_KEY",
      "SUPABASE_URL",
      "UPSTASH_REDIS_REST_TOKEN",
      "UPSTASH_REDIS_REST_URL",
    ]);
  });

  test("says where the page with the ranges is", () => {
    expect(errorOf({})).toMatchObject({ kind: "permanent", code: "config_invalid" });
    expect(errorOf({}).message).toContain("docs/reference/settings.md");
  });

  test.each([
    "@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/s)",
    "@microsoft.keyvault(VaultName=v;SecretName=s)",
  ])("says by name which Key Vault references were not resolved: %s", (reference) => {
    const faults = faultsOf(
      with_({ SUPABASE_KEY: reference, API_KEYS: reference, USAGE_BATCH_MAX: "1" }),
    );
    expect(faults).toHaveLength(3);
    expect(faults).toContainEqual({
      field: "SUPABASE_KEY",
      reason: "the Key Vault reference was not resolved",
    });
    expect(faults).toContainEqual({
      field: "API_KEYS",
      reason: "the Key Vault reference was not resolved",
    });
  });

  test.each([
    ["61 * * * *", 1],
    ["0 24 * * *", 2],
    ["0 2 32 * *", 3],
    ["0 2 * 13 *", 4],
    ["0 2 * * 9", 5],
    ["0 0 2 * * 9", 6],
    ["60 0 2 * * *", 1],
  ])("says which field of the schedule %j is wrong: %i", (schedule, position) => {
    const reason = reasonOf(
      "RECONCILIATION_SCHEDULE_DAILY",
      with_({ RECONCILIATION_SCHEDULE_DAILY: schedule }),
    );
    expect(reason).toMatch(new RegExp(`^not a schedule: field ${position}: `));
  });

  test("says the range of a number", () => {
    const reason = reasonOf("USAGE_RETAIN_HOURS", with_({ USAGE_RETAIN_HOURS: "23" }));
    expect(reason).toBe("must be between 24 and 720");
  });

  test("says which entry of API_KEYS is wrong", () => {
    const text = `a:viewer:sha256:${HASH_A},b:viewer:md5:${HASH_B}`;
    expect(reasonOf("API_KEYS", with_({ API_KEYS: text }))).toMatch(/^entry 2 /);
  });
});

describe("Redis", () => {
  const without = (env: Env): Env => with_({ REDIS_URL: undefined, ...env });

  test("is reached over REST when only the Upstash settings are present", () => {
    expect(loadConfig(without(UPSTASH)).redis).toEqual({
      upstash: { url: UPSTASH.UPSTASH_REDIS_REST_URL, token: UPSTASH.UPSTASH_REDIS_REST_TOKEN },
    });
  });

  test("is reached by REDIS_URL even when the Upstash settings are present, which stay known", () => {
    const { redis } = loadConfig(with_(UPSTASH));
    expect(redis.redisUrl).toBe(NEEDED["REDIS_URL"]);
    expect(redis.upstash).toBeDefined();
  });

  test("needs both Upstash settings and names the one that is missing", () => {
    const { UPSTASH_REDIS_REST_URL, UPSTASH_REDIS_REST_TOKEN } = UPSTASH;
    expect(refusedNames(without({ UPSTASH_REDIS_REST_URL }))).toEqual(["UPSTASH_REDIS_REST_TOKEN"]);
    expect(refusedNames(without({ UPSTASH_REDIS_REST_TOKEN }))).toEqual(["UPSTASH_REDIS_REST_URL"]);
  });

  test("may have half of the Upstash settings beside REDIS_URL", () => {
    const { UPSTASH_REDIS_REST_URL } = UPSTASH;
    expect(loadConfig(with_({ UPSTASH_REDIS_REST_URL })).redis.upstash).toBeUndefined();
  });

  test("may be a cluster named by several URLs", () => {
    const urls = "rediss://:p@one:6379, rediss://:p@two:6379";
    expect(loadConfig(with_({ REDIS_URL: urls })).redis.redisUrl).toBe(urls);
  });
});

describe("the loaded configuration", () => {
  const config = loadConfig(
    with_({
      ...UPSTASH,
      API_KEYS: `ops:admin:sha256:${HASH_A}`,
      CORS_ORIGINS: "https://App.Example.com:443/",
    }),
  );

  test("is frozen through and through", () => {
    const parts: object[] = [config];
    for (const part of parts) {
      expect(Object.isFrozen(part)).toBe(true);
      parts.push(...Object.values(part).filter((value) => typeof value === "object"));
    }
    expect(parts.length).toBeGreaterThan(8);
  });

  test("holds origins as browsers send them", () => {
    expect(config.http.corsOrigins).toEqual(["https://app.example.com"]);
  });

  test("holds the environment in lower case", () => {
    expect(loadConfig(with_({ ENVIRONMENT: "Production" })).environment).toBe("production");
  });

  test("reads booleans by their meaning, not by their truthiness", () => {
    const isEnabled = (value: string) =>
      loadConfig(with_({ ENABLE_USAGE_TRACKING: value })).usage.isTrackingEnabled;
    expect(["True", "yes", "ON", "1"].map(isEnabled)).toEqual([true, true, true, true]);
    expect(["False", "no", "off", "0"].map(isEnabled)).toEqual([false, false, false, false]);
  });

  test("ignores settings of others", () => {
    expect(() =>
      loadConfig(with_({ PATH: "/bin", FUNCTIONS_WORKER_RUNTIME: "node" })),
    ).not.toThrow();
  });

  test("comes from the environment of the process when none is given", () => {
    vi.stubEnv("SUPABASE_URL", "not a URL");
    expect(() => loadConfig()).toThrow("SUPABASE_URL: must be an http or https URL");
    vi.unstubAllEnvs();
  });
});

describe("unknownSettings", () => {
  test("finds names that start like ours and are none", () => {
    const env = {
      ...NEEDED,
      USAGE_BATCH_MAXIMUM: "1",
      RECONCILIATION_SCHEDULE_DAYLY: "x",
      API_KEYS_OLD: "x",
      PATH: "/bin",
      AzureWebJobsDashboard: "x",
    };
    expect(unknownSettings(env)).toEqual([
      "API_KEYS_OLD",
      "RECONCILIATION_SCHEDULE_DAYLY",
      "USAGE_BATCH_MAXIMUM",
    ]);
  });

  test("finds nothing among the settings themselves", () => {
    expect(unknownSettings(Object.fromEntries(NAMES.map((name) => [name, "x"])))).toEqual([]);
  });
});

describe("scheduleOf", () => {
  const NAME = "RECONCILIATION_SCHEDULE_DAILY";

  test.each([[{}], [{ [NAME]: "" }], [{ [NAME]: "  " }]])(
    "gives the documented default for %j",
    (env) => {
      expect(scheduleOf(NAME, env)).toBe("0 2 * * *");
    },
  );

  test.each(["*/5 * * * *", "not a schedule", "@Microsoft.KeyVault(x)", "%OTHER%", "\u0000"])(
    "hands on %j as it is and never throws",
    (text) => {
      expect(scheduleOf(NAME, { [NAME]: ` ${text} ` })).toBe(text);
    },
  );
});
