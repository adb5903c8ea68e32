import { describe, expect, test } from "vitest";
import { type Send, sendDirect, sendMounted } from "../support/http-shell.ts";
import { asProducer, expectProblem, key, MIB, openShell } from "../support/toy-shell.ts";

describe.each([
  ["through app.fetch", sendDirect],
  ["through the handler of the host", sendMounted],
] as const)("%s", (_name, open) => {
  const send: Send = open(openShell());

  describe("a body", () => {
    const post = (body: string | Uint8Array, headers: Record<string, string> = asProducer) =>
      send("/things", { method: "POST", headers, body });

    test("of JSON is read", async () => {
      expect((await post('{"name":"n"}')).json()).toEqual({ added: "n" });
    });

    test.each([
      "application/json",
      "application/json; charset=utf-8",
      "Application/JSON",
      "application/vnd.v1+json",
      "application/json;",
      'application/json; charset="utf-8"; a',
    ])("of the type %s is read", async (type) => {
      expect((await post('{"name":"n"}', { ...asProducer, "content-type": type })).status).toBe(
        200,
      );
    });

    test.each([
      "text/plain",
      "application/x-www-form-urlencoded",
      "application/jsonp",
      "application/json-seq",
      "text/json",
      "",
    ])("of the type %j is a 415", async (type) => {
      const answer = await post('{"name":"n"}', { ...key("producer"), "content-type": type });
      expectProblem(answer, 415, "media_type_unsupported");
    });

    test.each(["{", "", "{'name':1}", '{"name":"n"} x', "\u0000"])(
      "%j is a 400 that says it is not JSON",
      async (text) => {
        const answer = await post(text);
        if (text === "") expectProblem(answer, 400, "body_not_json");
        else expectProblem(answer, 400, "body_not_json");
      },
    );

    test("that is empty and of another type is a 415", async () => {
      const headers = { ...key("producer"), "content-type": "text/plain" };
      const answer = await send("/things", { method: "POST", headers });
      expectProblem(answer, 415, "media_type_unsupported");
    });

    test("that is absent is a 400 that names the missing fields", async () => {
      const answer = await send("/things", { method: "POST", headers: key("producer") });
      expectProblem(answer, 400, "request_invalid");
      expect(answer.json()["errors"]).toMatchObject([{ field: "name" }]);
    });

    test("with faults is a 400 that names every field and no value", async () => {
      const answer = await post('{"name":"","tags":[{"key":"k"},{"key":7}],"hunter3":"hunter2"}');
      expectProblem(answer, 400, "request_invalid");
      expect(answer.json()["errors"]).toEqual([
        { field: "name", reason: "must not be empty" },
        { field: "tags[1].key", reason: expect.stringContaining("string") },
        { field: "hunter3", reason: "is not known" },
      ]);
      expect(answer.json()["detail"]).toMatch(/^name: must not be empty; tags\[1\]\.key: /);
      expect(answer.text).not.toContain("hunter2");
    });

    test("with very many faults names the first fifty", async () => {
      const fields = Array.from({ length: 3000 }, (_, index) => [`x${index}`, 1]);
      const answer = await post(JSON.stringify({ name: "n", ...Object.fromEntries(fields) }));
      expect(answer.json()["errors"]).toHaveLength(50);
      expect(answer.json()["detail"]).toMatch(/; and 45 more$/);
    });

    test("with very many bad items names the first fifty", async () => {
      const tags = Array.from({ length: 60 }, () => ({ key: 7 }));
      const answer = await post(JSON.stringify({ name: "n", tags }));
      expect(answer.json()["errors"]).toHaveLength(50);
      expect(answer.text.length).toBeLessThan(10_000);
    });

    test("with a field name of any length has an answer of its own size", async () => {
      const answer = await post(JSON.stringify({ name: "n", ["x".repeat(500_000)]: 1 }));
      expectProblem(answer, 400, "request_invalid");
      expect(answer.text.length).toBeLessThan(2000);
    });

    test.each([
      [MIB, 200],
      [MIB + 1, 413],
      [3 * MIB, 413],
    ])("of %i bytes is a %i", async (size, status) => {
      const frame = '{"name":""}'.length;
      const answer = await post(`{"name":"${"x".repeat(size - frame)}"}`);
      expect(answer.status).toBe(status);
      if (status === 413) expectProblem(answer, 413, "body_too_large");
    });

    test("that is too large is judged after the key", async () => {
      const answer = await post("x".repeat(MIB + 1), { "content-type": "application/json" });
      expectProblem(answer, 401, "credentials_missing");
    });

    test.each(["[", '{"any":'])(
      "that nests %j without end is a 400, not a lack of stack",
      async (open) => {
        const close = open === "[" ? "]" : "}";
        const deep = open.repeat(100_000) + (open === "[" ? "" : "1") + close.repeat(100_000);
        const answer = await post(`{"name":"n","any":${deep}}`);
        expectProblem(answer, 400, "request_invalid");
        expect(answer.json()["errors"]).toEqual([
          { field: "body", reason: "nests more than 32 levels deep" },
        ]);
      },
    );

    test("may nest 32 levels and hold any brackets in its texts", async () => {
      const deep = `${"[".repeat(31)}"${'[{\\"'.repeat(100)}"${"]".repeat(31)}`;
      expect((await post(`{"name":"n","any":${deep}}`)).status).toBe(200);
    });
  });

  describe("a query or a part of the path", () => {
    test.each([
      ["/things/7?limit=many", "limit"],
      ["/things/7?limit=101", "limit"],
      ["/things/7?limit=1&limit=2", "limit"],
      [`/things/${"x".repeat(21)}`, "id"],
    ])("%s is a 400 that names %s", async (path, field) => {
      const answer = await send(path, { headers: key("viewer") });
      expectProblem(answer, 400, "request_invalid");
      expect(answer.json()["errors"]).toEqual([{ field, reason: expect.any(String) }]);
    });

    test("is decoded once", async () => {
      const headers = key("viewer");
      expect((await send("/things/a%2Fb%20%2541", { headers })).json()["id"]).toBe("a/b %41");
      expect((await send("/things/%zz", { headers })).json()["id"]).toBe("%zz");
    });
  });
});
