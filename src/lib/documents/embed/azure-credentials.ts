import { type AppError, permanent, transient } from "../../kernel/errors.ts";
import type { Credentials } from "./azure-openai-request.ts";

const SCOPE = "https://cognitiveservices.azure.com/.default";
/** No identity is there at all, or none that could sign in: waiting does not change it. */
const NO_IDENTITY = new Set(["CredentialUnavailableError", "AggregateAuthenticationError"]);

export const keyCredentials =
  (apiKey: string): Credentials =>
  async () => ({ "api-key": apiKey });

/** The identity of the app; its library caches tokens and renews them before they expire. */
export function identityCredentials(): Credentials {
  let built: Promise<{ getToken: TokenCall }> | undefined;
  return async (signal) => {
    built ??= import("@azure/identity").then(
      ({ DefaultAzureCredential }) => new DefaultAzureCredential(),
    );
    const credential = await built;
    try {
      const { token } = await credential.getToken(SCOPE, { abortSignal: signal });
      return { authorization: `Bearer ${token}` };
    } catch (error) {
      throw classify(error);
    }
  };
}

type TokenCall = (
  scope: string,
  options: { abortSignal: AbortSignal },
) => Promise<{ token: string }>;

function classify(error: unknown): AppError {
  const isMissing = error instanceof Error && NO_IDENTITY.has(error.name);
  return isMissing
    ? permanent("embedder_refused", { reason: "no identity" }, error)
    : transient("embedder_unavailable", { reason: "identity" }, error);
}
