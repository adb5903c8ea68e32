import { describe, expect, test } from "vitest";
import {
  type Answer,
  API_KEYS,
  type Send,
  sendDirect,
  sendMounted,
} from "../support/http-shell.ts";
import { asProducer, expectProblem, ORIGIN, openShell } from "../support/toy-shell.ts";

describe.each([
  ["through app.fetch", sendDirect],
  ["through the handler of the host", sendMounted],
] as const)("%s", (_name, open) => {
  const send: Send = open(openShell());

  describe("CORS", () => {
    const preflight = (path: string, origin: string) =>
      send(path, {
        method: "OPTIONS",
        headers: {
          origin,
          "access-control-request-method": "POST",
          "access-control-request-headers": "x-api-key,content-type",
        },
      });
    const corsHeaders = ({ headers }: Answer) =>
      [...headers.keys()].filter((name) => name.startsWith("access-control-"));

    test.each(["/things", "/things/7", "/open"])(
      "lets a listed origin ask before %s",
      async (path) => {
        const answer = await preflight(path, ORIGIN);
        expect([answer.status, answer.text]).toEqual([204, ""]);
        expect(answer.headers.get("access-control-allow-origin")).toBe(ORIGIN);
        expect(answer.headers.get("access-control-allow-methods")).toBe(
          "GET,HEAD,POST,PUT,PATCH,DELETE",
        );
        expect(answer.headers.get("access-control-allow-headers")).toBe(
          "authorization,content-type,x-api-key",
        );
        expect(answer.headers.get("access-control-max-age")).toBe("600");
        expect(answer.headers.get("vary")).toMatch(/Origin/);
        expect(answer.headers.has("access-control-allow-credentials")).toBe(false);
      },
    );

    test.each([
      "https://evil.example.com",
      "http://app.example.com",
      "https://app.example.com:8443",
      "https://app.example.com.evil.com",
      "null",
      "*",
    ])("gives the origin %s nothing", async (origin) => {
      const asked = await preflight("/things", origin);
      expect(asked.status).toBe(405);
      expect(corsHeaders(asked)).toEqual([]);
      const got = await send("/open", { headers: { origin } });
      expect(got.status).toBe(200);
      expect(corsHeaders(got)).toEqual([]);
    });

    test.each<[number, Parameters<Send>[0], NonNullable<Parameters<Send>[1]>]>([
      [200, "/open", {}],
      [401, "/things/7", {}],
      [404, "/nothing", {}],
      [400, "/things", { method: "POST", headers: asProducer, body: "{" }],
      [503, "/throw/unknown", { method: "POST" }],
    ])("lets a listed origin read a %i", async (status, path, sent) => {
      const answer = await send(path, { ...sent, headers: { ...sent.headers, origin: ORIGIN } });
      expect(answer.status).toBe(status);
      expect(answer.headers.get("access-control-allow-origin")).toBe(ORIGIN);
      expect(answer.headers.get("access-control-expose-headers")).toBe("retry-after");
      expect(answer.headers.get("vary")).toMatch(/Origin/);
    });

    test("takes OPTIONS that asks nothing for a method like any other", async () => {
      const answer = await send("/things", { method: "OPTIONS", headers: { origin: ORIGIN } });
      expectProblem(answer, 405, "method_not_allowed");
    });

    test("is off for everybody when no origin is listed", async () => {
      const closed = open(openShell({ apiKeys: API_KEYS, corsOrigins: [] }));
      for (const origin of [ORIGIN, ""]) {
        const headers = { origin, "access-control-request-method": "GET" };
        expect(corsHeaders(await closed("/open", { method: "OPTIONS", headers }))).toEqual([]);
        expect(corsHeaders(await closed("/open", { headers }))).toEqual([]);
      }
    });
  });
});
