import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface AskedFor {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly input: readonly string[];
  readonly dimensions: number;
  readonly encoding: string;
}

/** What happens to the next call instead of a good answer. */
export type Mishap = (response: ServerResponse, asked: AskedFor) => void;

const DIMENSIONS = 1536;
/** Of one input; the service counts tokens, and here a word is one. */
const WORDS_MAX = 8192;
/** The service refuses to embed it. */
export const POISON = "contenido filtrado";

/**
 * Speaks the protocol of the embeddings of a deployment of Azure OpenAI as its documentation has it: keys, bearer
 * tokens, base64 floats, refusals with code and param. The vector of a text points to a place of its own.
 */
export async function startFakeAzureOpenAi() {
  const calls: AskedFor[] = [];
  const mishaps: Mishap[] = [];
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      const body = JSON.parse(Buffer.concat(parts).toString("utf8"));
      const { input, dimensions, encoding_format: encoding } = body;
      const asked = {
        path: request.url ?? "",
        headers: request.headers,
        input,
        dimensions,
        encoding,
      };
      calls.push(asked);
      const mishap = mishaps.shift() ?? answerAsDocumented;
      mishap(response, asked);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    calls,
    /** Each is for one call, in order. */
    next: (...list: Mishap[]) => mishaps.push(...list),
    reset: () => {
      calls.length = 0;
      mishaps.length = 0;
    },
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

export const json =
  (status: number, body: unknown, headers: Record<string, string> = {}): Mishap =>
  (response) => {
    response.writeHead(status, { "content-type": "application/json", ...headers });
    response.end(JSON.stringify(body));
  };

export const refusal = (status: number, code: string, more: object = {}, headers = {}): Mishap =>
  json(status, { error: { code, message: `The request was refused: ${code}.`, ...more } }, headers);

const answerAsDocumented: Mishap = (response, asked) => {
  const { input } = asked;
  if (asked.headers["api-key"] !== "secret-key" && asked.headers.authorization !== "Bearer token")
    return refusal(401, "401")(response, asked);
  if (
    input.length > 2048 ||
    input.some((text) => text === "" || text.split(" ").length > WORDS_MAX)
  )
    return refusal(400, "invalid_request_error", { param: "input" })(response, asked);
  if (input.some((text) => text.includes(POISON)))
    return refusal(400, "content_filter", { param: "prompt" })(response, asked);
  json(200, { object: "list", model: "text-embedding-3-small", data: input.map(embeddingOf) })(
    response,
    asked,
  );
};

/** In the order of `at`, which need not be that of the inputs. */
export const embeddingOf = (text: string, index: number) => ({
  object: "embedding",
  index,
  embedding: base64Of(text, DIMENSIONS),
});

export function base64Of(text: string, dimensions: number): string {
  const vector = new Float32Array(dimensions);
  vector[placeOf(text) % dimensions] = 1;
  return Buffer.from(vector.buffer).toString("base64");
}

export const placeOf = (text: string): number =>
  [...text].reduce((sum, letter) => (sum * 31 + (letter.codePointAt(0) ?? 0)) % DIMENSIONS, 7);
