import { timingSafeEqual } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { AuthLevel } from "./hosted-function.ts";

/** Keys by name, as Azure shows them. The case of a function's name does not count. */
export interface FunctionKeys {
  /** Opens everything, the admin endpoints too. */
  readonly master?: string;
  /** Each opens every function. */
  readonly host?: Readonly<Record<string, string>>;
  /** Each opens one function. */
  readonly functions?: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

/** The key of a request: header `x-functions-key`, else query `code`. */
export function keyOfRequest(request: IncomingMessage, url: URL): string | undefined {
  const header = request.headers["x-functions-key"];
  return typeof header === "string" ? header : (url.searchParams.get("code") ?? undefined);
}

export const isMaster = (keys: FunctionKeys, key: string | undefined): boolean =>
  key !== undefined && keys.master !== undefined && isSame(keys.master, key);

export function mayCall(
  keys: FunctionKeys,
  key: string | undefined,
  { name, authLevel }: { readonly name: string; readonly authLevel: AuthLevel },
): boolean {
  if (authLevel === "anonymous" || isMaster(keys, key)) return true;
  if (authLevel === "admin" || key === undefined) return false;
  const own = Object.entries(keys.functions ?? {}).find(
    ([functionName]) => functionName.toLowerCase() === name.toLowerCase(),
  );
  const accepted = [...Object.values(keys.host ?? {}), ...Object.values(own?.[1] ?? {})];
  return accepted.some((it) => isSame(it, key));
}

function isSame(known: string, given: string): boolean {
  const [a, b] = [Buffer.from(known), Buffer.from(given)];
  return a.length === b.length && timingSafeEqual(a, b);
}
