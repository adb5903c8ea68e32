import type { FieldFault } from "../kernel/errors.ts";
import type { ObjectRef } from "./stored-object.ts";

const PATH_CHARACTERS_MAX = 1024;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
const FORBIDDEN = /[\u0000-\u001f\u007f\\]/;

/**
 * Whether an object may be read in the name of a workspace. The containers are a list of the settings, because the same
 * account also holds what no document is; the path begins with the workspace, so that nobody reads another one's.
 */
export function faultOfObject(
  { container, path }: Omit<ObjectRef, "storage">,
  workspaceId: string,
  containers: readonly string[],
): FieldFault | undefined {
  if (!containers.includes(container))
    return { field: "container", reason: `must be one of ${containers.join(", ")}` };
  const reason = faultOfPath(path, workspaceId);
  return reason === undefined ? undefined : { field: "path", reason };
}

function faultOfPath(path: string, workspaceId: string): string | undefined {
  if (!path.startsWith(`${workspaceId}/`)) return "must begin with the workspace and a slash";
  if (path.length > PATH_CHARACTERS_MAX)
    return `must have at most ${PATH_CHARACTERS_MAX} characters`;
  if (FORBIDDEN.test(path) || !path.isWellFormed())
    return "must not have backslashes or control characters";
  const isStrange = path.split("/").some((part) => part === "" || part === "." || part === "..");
  return isStrange ? "must not have empty parts, . or .." : undefined;
}
