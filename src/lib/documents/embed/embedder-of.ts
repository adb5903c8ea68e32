import type { Clock } from "../../kernel/clock.ts";
import type { Embedder } from "../embedder.ts";
import { identityCredentials, keyCredentials } from "./azure-credentials.ts";
import { createAzureOpenAi } from "./azure-openai.ts";
import { createLexHash } from "./lex-hash.ts";

export interface EmbedderConfig {
  readonly azureOpenAi?: {
    readonly endpoint: string;
    readonly deployment: string;
    /** Without one the identity of the app signs in. */
    readonly apiKey?: string;
    readonly tokensPerMinute: number;
  };
}

/** The embedder of this deployment: the offline one unless another is configured. Touches no network before its first text. */
export function embedderOf({ azureOpenAi }: EmbedderConfig, clock: Clock): Embedder {
  if (azureOpenAi === undefined) return createLexHash();
  const { apiKey } = azureOpenAi;
  const credentials = apiKey === undefined ? identityCredentials() : keyCredentials(apiKey);
  return createAzureOpenAi({ ...azureOpenAi, credentials, clock });
}
