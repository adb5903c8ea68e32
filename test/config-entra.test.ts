import { describe, expect, test } from "vitest";
import { loadConfig } from "../src/config.ts";
import { AppError, type FieldFault } from "../src/lib/kernel/errors.ts";

const with_ = (env: Record<string, string>) => ({
  AzureWebJobsStorage: "UseDevelopmentStorage=true",
  SUPABASE_URL: "https://project.supabase.co",
  SUPABASE_KEY: "a-service-role-key-of-some-length",
  REDIS_URL: "redis://127.0.0.1:6379",
  ...env,
});

function refusedNames(env: Record<string, string>): string[] {
  try {
    loadConfig(env);
    return [];
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return (error.details["faults"] as readonly FieldFault[]).map(({ field }) => field);
  }
}

describe("the directory whose tokens are taken", () => {
  const tenantId = "7C9E6679-7425-40de-944b-e07fc1f90ae7";

  test("is given by both settings, and may have two audiences", () => {
    const env = { ENTRA_TENANT_ID: tenantId, ENTRA_AUDIENCE: "api://worker, 0a1b" };
    expect(loadConfig(with_(env)).http.entra).toEqual({
      tenantId: tenantId.toLowerCase(),
      audiences: ["api://worker", "0a1b"],
    });
    expect(loadConfig(with_({})).http).not.toHaveProperty("entra");
  });

  test("is refused when one is missing, by the name of that one", () => {
    expect(refusedNames(with_({ ENTRA_TENANT_ID: tenantId }))).toEqual(["ENTRA_AUDIENCE"]);
    expect(refusedNames(with_({ ENTRA_AUDIENCE: "api://worker" }))).toEqual(["ENTRA_TENANT_ID"]);
  });

  test.each([
    ["ENTRA_TENANT_ID", { ENTRA_TENANT_ID: "contoso.com", ENTRA_AUDIENCE: "a" }],
    ["ENTRA_AUDIENCE", { ENTRA_TENANT_ID: tenantId, ENTRA_AUDIENCE: "an audience*" }],
  ])("is refused by %s when that is none", (name, env) => {
    expect(refusedNames(with_(env))).toEqual([name]);
  });
});
