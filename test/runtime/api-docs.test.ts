import { beforeAll, describe, expect, test } from "vitest";
import { ROLES } from "../../src/lib/kernel/api-keys.ts";
import { type Answer, type Send, sendToHandler } from "../support/http-shell.ts";
import { CLOSED_PORTS, httpHandlerOf, loadApp } from "../support/loaded-app.ts";

interface Operation {
  readonly summary?: string;
  readonly operationId?: string;
  readonly security?: readonly Record<string, readonly string[]>[];
  readonly parameters?: readonly {
    name: string;
    in: string;
    required?: boolean;
    schema: unknown;
  }[];
  readonly requestBody?: { required?: boolean; content: Record<string, { schema: unknown }> };
  readonly responses: Record<
    string,
    { description: string; content?: Record<string, { schema: unknown }> }
  >;
}

interface Document {
  readonly openapi: string;
  readonly info: { title: string; version: string };
  readonly paths: Record<string, Record<string, Operation>>;
  readonly components: {
    schemas: Record<string, unknown>;
    securitySchemes: Record<string, unknown>;
  };
}

let send: Send;
let answer: Answer;
let document: Document;
let operations: { name: string; path: string; operation: Operation }[];

beforeAll(async () => {
  send = sendToHandler(httpHandlerOf(await loadApp(CLOSED_PORTS), "managementApi"));
  answer = await send("/openapi.json");
  expect(answer.status, JSON.stringify(answer.lines)).toBe(200);
  document = answer.json() as unknown as Document;
  operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      name: `${method.toUpperCase()} ${path}`,
      path,
      operation,
    })),
  );
});

/** Names of the operations that break a rule. */
const breaking = (rule: (operation: Operation, path: string) => boolean): string[] =>
  operations.filter(({ operation, path }) => !rule(operation, path)).map(({ name }) => name);

const problemStatuses = ({ responses }: Operation): string[] =>
  Object.entries(responses)
    .filter(([, { content = {} }]) => "application/problem+json" in content)
    .map(([status]) => status);

const hasAll = (operation: Operation, statuses: readonly string[]): boolean =>
  statuses.every((status) => problemStatuses(operation).includes(status));

const isPublic = ({ security = [] }: Operation): boolean => security.length === 0;
const hasInput = ({ parameters = [], requestBody }: Operation): boolean =>
  parameters.length > 0 || requestBody !== undefined;

describe("the OpenAPI document", () => {
  test("is answered as JSON to anybody, the same each time", async () => {
    expect([answer.status, answer.headers.get("content-type")]).toEqual([200, "application/json"]);
    expect((await send("/openapi.json")).text).toBe(answer.text);
  });

  test("says its version and title, and lists operations", () => {
    expect(document).toMatchObject({ openapi: "3.1.0", info: { title: "worker-service" } });
    expect(operations.length).toBeGreaterThan(5);
  });

  test("uses only what its components define", () => {
    const refs = [...answer.text.matchAll(/"\$ref":"([^"]+)"/g)].map(([, ref = ""]) => ref);
    expect(refs.length).toBeGreaterThan(5);
    for (const ref of new Set(refs)) {
      const [, , section = "", name = ""] = ref.split("/");
      expect(document.components, ref).toHaveProperty([section, name]);
    }
  });

  test("writes paths that start with a slash and declare each of their parameters", () => {
    expect(
      breaking(({ parameters = [] }, path) => {
        const wanted = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
        const declared = parameters.filter((it) => it.in === "path" && it.required === true);
        const names = declared.map(({ name }) => name);
        return path.startsWith("/") && wanted.sort().join() === names.sort().join();
      }),
    ).toEqual([]);
  });

  test("gives no operation id twice", () => {
    const ids = operations.flatMap(({ operation }) => operation.operationId ?? []);
    expect(new Set(ids).size).toBe(ids.length);
  });

  test("says in one line what each operation does, and describes each answer", () => {
    expect(breaking(({ summary = "" }) => summary.length > 5 && summary.length < 120)).toEqual([]);
    expect(
      breaking(({ responses }) =>
        Object.values(responses).every(({ description }) => description.length > 3),
      ),
    ).toEqual([]);
  });

  test("has a success, with a schema, for each operation", () => {
    expect(
      breaking(({ responses }, path) => {
        const content = responses["200"]?.content ?? responses["202"]?.content;
        return content !== undefined || path === "/openapi.json";
      }),
    ).toEqual([]);
  });

  test("gives each parameter and body a schema", () => {
    expect(
      breaking(({ parameters = [], requestBody }) => {
        const schemas = Object.values(requestBody?.content ?? {}).map(({ schema }) => schema);
        return [...parameters.map(({ schema }) => schema), ...schemas].every(
          (schema) => Object.keys(schema ?? {}).length > 0,
        );
      }),
    ).toEqual([]);
  });

  test("declares for each operation that it is public, or the one role that it needs", () => {
    const schemes = Object.keys(document.components.securitySchemes);
    expect(schemes).toEqual(["apiKey"]);
    expect(
      breaking(({ security }) => {
        if (security === undefined) return false;
        const roles = security.flatMap((scheme) => scheme["apiKey"] ?? ["unknown"]);
        return (
          roles.length <= 1 && roles.every((role) => (ROLES as readonly string[]).includes(role))
        );
      }),
    ).toEqual([]);
  });

  test("leaves nothing public but itself and its page", () => {
    const open = operations.filter(({ operation }) => isPublic(operation)).map(({ name }) => name);
    expect(open.sort()).toEqual(["GET /docs", "GET /openapi.json"]);
  });

  test("documents the problems where they can happen", () => {
    expect(breaking((it) => !hasInput(it) || hasAll(it, ["400"]))).toEqual([]);
    expect(breaking((it) => isPublic(it) || hasAll(it, ["401", "403", "500", "503"]))).toEqual([]);
    expect(breaking((it) => it.requestBody === undefined || hasAll(it, ["413", "415"]))).toEqual(
      [],
    );
    expect(breaking((it, path) => !path.includes("{") || hasAll(it, ["400"]))).toEqual([]);
  });

  test("documents every failure as problem details, and problem details as they are answered", async () => {
    expect(
      breaking((operation) => {
        const failures = Object.keys(operation.responses).filter((status) => Number(status) >= 400);
        return hasAll(operation, failures);
      }),
    ).toEqual([]);
    const { properties, required } = document.components.schemas["Problem"] as {
      properties: object;
      required: string[];
    };
    const problem = (await send("/nothing")).json();
    expect(Object.keys(properties)).toEqual(expect.arrayContaining(Object.keys(problem)));
    expect(Object.keys(problem)).toEqual(expect.arrayContaining(required));
  });
});

describe("the page", () => {
  test("lists every operation with its role, and loads nothing", async () => {
    const page = await send("/docs");
    expect([page.status, page.headers.get("content-type")]).toEqual([
      200,
      "text/html; charset=UTF-8",
    ]);
    for (const { path, operation } of operations) {
      expect(page.text).toContain(`<code>${path}</code>`);
      expect(page.text).toContain(
        (operation.summary ?? "")
          .replaceAll("&", "&amp;")
          .replaceAll("'", "&#39;")
          .replaceAll("<", "&lt;"),
      );
    }
    for (const role of ["anybody", "producer", "viewer"])
      expect(page.text).toContain(`<td>${role}</td>`);
    expect(page.text).not.toMatch(/<script|<img|<link|@import|https?:\/\//);
  });
});
