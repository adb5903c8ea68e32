import { describe, expect, test } from "vitest";
import { graphWebhookRoutes } from "../../src/lib/graph/graph-webhook.http.ts";
import { createWebApp } from "../../src/lib/runtime/web-app.http.ts";
import { sendMounted } from "../support/http-shell.ts";

const app = createWebApp({ settings: () => ({ apiKeys: [], corsOrigins: [] }) });
app.route("/", graphWebhookRoutes());
const send = sendMounted(app);

/** As Microsoft Graph sends them. */
const HANDSHAKE = { "content-type": "text/plain; charset=utf-8" };
const NOTIFICATION = { "content-type": "application/json" };

describe.each(["/listen", "/listen/lifecycle"])("POST %s without Graph settings", (path) => {
  test("leaves the handshake unanswered, so that no subscription exists whose mail nobody reads", async () => {
    const asked = `${path}?validationToken=Validation%3a+Testing`;
    const answer = await send(asked, { method: "POST", headers: HANDSHAKE });
    expect(answer.status).toBe(503);
    expect(answer.json()).toMatchObject({
      code: "graph_not_configured",
      detail: "no GRAPH_* setting is present",
    });
    expect(answer.text).not.toContain("Testing");
  });

  test("refuses a notification, so that Graph keeps it and delivers again", async () => {
    const body = JSON.stringify({ value: [{ clientState: "hunter2", resource: "Users/x" }] });
    const answer = await send(path, { method: "POST", headers: NOTIFICATION, body });
    expect(answer.status).toBe(503);
    expect(answer.headers.get("retry-after")).toBe("5");
    expect(JSON.stringify(answer.lines)).not.toContain("hunter2");
  });

  test("is an error of its run, because somebody must configure Graph or remove the subscription", async () => {
    const { lines } = await send(path, { method: "POST", headers: HANDSHAKE });
    expect(lines).toMatchObject([
      { level: "error", fields: { event: "run_failed", code: "graph_not_configured" } },
    ]);
  });

  test("knows no other method", async () => {
    const answer = await send(path);
    expect([answer.status, answer.headers.get("allow")]).toEqual([405, "POST"]);
  });
});
