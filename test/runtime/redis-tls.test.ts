import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { getCACertificates, setDefaultCACertificates } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createIoredisDriver } from "../../src/lib/runtime/ioredis-driver.redis.ts";
import { hasProgram, type OwnRedisServer, openRedisServer } from "./own-redis-server.ts";

const signal = () => AbortSignal.timeout(20_000);

/** A server with a certificate that only this test knows; undefined where the tools are missing. */
async function openTlsServer(): Promise<OwnRedisServer | undefined> {
  if (!hasProgram("redis-server") || !hasProgram("openssl", "version")) return undefined;
  const start = openRedisServer((port, folder) => {
    makeCertificate(folder);
    const files = ["cert", "key"].flatMap((name) => [
      `--tls-${name}-file`,
      join(folder, `${name}.pem`),
    ]);
    return ["--port", "0", "--tls-port", `${port}`, ...files, "--tls-auth-clients", "no"];
  });
  return start.catch(() => undefined); // a build without TLS ends at once
}

function makeCertificate(folder: string): void {
  const subject = [
    "-subj",
    "/CN=localhost",
    "-addext",
    "subjectAltName=DNS:localhost,IP:127.0.0.1",
  ];
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const files = ["-keyout", join(folder, "key.pem"), "-out", join(folder, "cert.pem")];
  execFileSync("openssl", ["req", "-x509", "-days", "2", ...key, ...subject, ...files], {
    stdio: "ignore",
  });
}

const server = await openTlsServer();
if (server === undefined) {
  console.info("No redis-server with TLS, or no openssl, on the PATH: the TLS tests are left out.");
}

describe.skipIf(server === undefined)("the ioredis driver over TLS", () => {
  const { port = 0, folder = "" } = server ?? {};
  const trusted = getCACertificates("default");
  beforeAll(() =>
    setDefaultCACertificates([...trusted, readFileSync(join(folder, "cert.pem"), "utf8")]),
  );
  afterAll(async () => {
    setDefaultCACertificates(trusted);
    await server?.close();
  });

  test.each(["localhost", "127.0.0.1"])(
    "speaks to %s behind a certificate it trusts",
    async (host) => {
      const redis = createIoredisDriver({ url: `rediss://${host}:${port}/2` });
      expect(await redis.command(["SET", "k", "007"], signal())).toBe("OK");
      expect(
        await redis.pipeline(
          [
            ["GET", "k"],
            ["DEL", "k"],
          ],
          signal(),
        ),
      ).toEqual(["007", 1]);
      await redis.close();
    },
  );

  test("does not speak to a server whose certificate it does not trust", async () => {
    setDefaultCACertificates(trusted);
    const redis = createIoredisDriver({ url: `rediss://localhost:${port}` });
    const error = await redis.command(["PING"], signal()).catch((e) => e);
    expect(error).toMatchObject({
      code: "redis_unavailable",
      details: { code: "DEPTH_ZERO_SELF_SIGNED_CERT" },
    });
    await redis.close();
  });

  test("plain text to a TLS port fails instead of hanging", async () => {
    const redis = createIoredisDriver({ url: `redis://localhost:${port}`, timeoutMs: 500 });
    const error = await redis.command(["PING"], signal()).catch((e) => e);
    expect(error).toMatchObject({ kind: "transient", code: "redis_unavailable" });
    await redis.close();
  });
});
