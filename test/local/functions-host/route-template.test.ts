import { expect, test } from "vitest";
import { compileRoute } from "../../../local/functions-host/route-template.ts";

test.each<[template: string, path: string, values: object | undefined]>([
  ["", "/", {}],
  ["", "/a", undefined],
  ["health", "/HEALTH", {}],
  ["health", "/health/", {}],
  ["health", "/health/x", undefined],
  ["/a/b/", "/a/b", {}],
  ["a/{id}", "/a", undefined],
  ["a/{id}", "/a/1", { id: "1" }],
  ["a/{id}", "/a/x%20y", { id: "x y" }],
  ["a/{id}", "/a/x%2Fy", { id: "x%2Fy" }],
  ["a/{id}", "/a/%2520", { id: "%20" }],
  ["a/{id}", "/a/%zz", { id: "%zz" }],
  ["a/{id}", "/a//", undefined],
  ["a/{id?}", "/a", {}],
  ["a/{id=7}", "/a", { id: "7" }],
  ["a/{id:int=7}", "/a", { id: "7" }],
  ["a/{id:int?}", "/a", {}],
  ["a/{id:int?}", "/a/x", undefined],
  ["{*rest}", "/", {}],
  ["{*rest}", "/a/b", { rest: "a/b" }],
  ["{**rest}", "/a/b", { rest: "a/b" }],
  ["listen/{*path}", "/listen", {}],
  ["listen/{*path}", "/listen/lifecycle", { path: "lifecycle" }],
  ["listen/{*path}", "/listening", undefined],
  ["{*rest=index}", "/", { rest: "index" }],
  ["{*rest:alpha}", "/a1", undefined],
  ["{name}.{extension}", "/a.b.txt", { name: "a", extension: "b.txt" }],
  ["{name}.{extension?}", "/a", { name: "a" }],
  ["{name}.{extension?}", "/a.txt", { name: "a", extension: "txt" }],
  ["v{version:int}", "/v12", { version: "12" }],
  ["v{version:int}", "/vx", undefined],
  ["{probe:regex(^(health|healthz|readyz)$)}", "/healthz", { probe: "healthz" }],
  ["{probe:regex(^(health|healthz|readyz)$)}", "/healthy", undefined],
  ["{code:regex(^\\d{{3}}$)}", "/123", { code: "123" }],
  ["{code:regex(^\\d{{3}}$)}", "/12", undefined],
  ["{code:regex(^a/b$)}", "/a", undefined],
])("%s and %s give %j", (template, path, values) => {
  expect(compileRoute(template)(path)).toEqual(values);
});

test.each<[constraint: string, accepted: string, refused: string]>([
  ["int", "-2147483648", "2147483648"],
  ["int", "+5", "1.5"],
  ["long", "9223372036854775807", "9223372036854775808"],
  ["bool", "TRUE", "1"],
  ["guid", "2F1B3C4D-0000-0000-0000-000000000000", "2f1b"],
  ["guid", "{2f1b3c4d-0000-0000-0000-000000000000}", "x"],
  ["alpha", "aZ", "a1"],
  ["decimal", "1.5", "1e5"],
  ["double", "1e5", "e"],
  ["float", "-.5", "-"],
  ["datetime", "2026-01-02T03:04", "2026"],
  ["minlength(2)", "ab", "a"],
  ["maxlength(2)", "ab", "abc"],
  ["length(2)", "ab", "abc"],
  ["length(2,3)", "abc", "a"],
  ["min(5)", "5", "4"],
  ["max(5)", "5", "6"],
  ["range(1,5)", "3", "6"],
  ["regex(^b.$)", "BX", "abx"],
  ["required", "x", ""],
])("the constraint %s accepts %s and refuses %j", (constraint, accepted, refused) => {
  const match = compileRoute(`{p:${constraint}}`);
  expect(match(`/${accepted}`)).toEqual({ p: accepted });
  expect(match(`/${refused}`)).toBeUndefined();
});

test.each([
  ["a/{", "unbalanced braces"],
  ["a/}{", "wrong braces"],
  ["a/{}", "wrong braces"],
  ["a/{:int}", "has no name"],
  ["{id:unheard}", 'the route constraint "unheard" is not known'],
  ["{id:length(x)}", 'the route constraint "length(x)" is not known'],
  ["{id:regex(()}", "is not valid"],
  ["{*rest}/a", "goes on after its catch-all"],
  ["{id}/{ID}", "uses a parameter twice"],
  ["a{id?}", "where it cannot be"],
  ["{a?}.{b}", "where it cannot be"],
  ["a-{*rest}", "where it cannot be"],
])("the template %s is refused: %s", (template, reason) => {
  expect(() => compileRoute(template)).toThrow(reason);
});
