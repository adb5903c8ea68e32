import { OpenAPIHono, z } from "@hono/zod-openapi";
import type { Role } from "../kernel/api-keys.ts";
import { type FieldFault, permanent } from "../kernel/errors.ts";
import type { ActiveRun } from "../kernel/run.ts";

/** Who calls: the name and role of the key, or of the holder of a token. */
export interface Caller {
  readonly name: string;
  readonly role: Role;
  /** The parts of the API the key is for; undefined = all. */
  readonly scopes?: readonly string[];
}

export interface WebEnv {
  readonly Bindings: { readonly run: ActiveRun };
  readonly Variables: { readonly caller: Caller };
}

/** Enough to mend an input; 500 records without a tenant need not be said 500 times. */
const FAULTS_MAX = 50;
/** A caller may send names of any length. */
const FIELD_CHARACTERS_MAX = 200;

/**
 * An empty set of routes whose bad input becomes one problem that names every field. A slash at the end of a path
 * makes no difference, as in the routes of the host.
 */
export const createRoutes = (): OpenAPIHono<WebEnv> =>
  new OpenAPIHono<WebEnv>({
    strict: false,
    defaultHook: (result) => {
      if (!result.success) throw requestInvalid(result.error, result.target);
    },
  });

/** The role a route needs, as the `security` of its OpenAPI operation: what is documented is what is enforced. */
export const needsRole = (role: Role): { apiKey: string[] }[] => [{ apiKey: [role] }];

/** A route that answers anybody. */
export const PUBLIC: { apiKey: string[] }[] = [];

/** The same input error for every route, and for checks that a schema cannot express. */
export function requestInvalid(error: z.core.$ZodError, target: string): Error {
  const faults = error.issues.flatMap((issue) => faultsOf(issue, target));
  return permanent("request_invalid", { faults: faults.slice(0, FAULTS_MAX) });
}

/** An unknown field is named like any other, not as a fault of what it stands in. */
function faultsOf(issue: z.core.$ZodIssue, target: string): FieldFault[] {
  if (issue.code !== "unrecognized_keys")
    return [{ field: fieldPath(issue.path) || target, reason: issue.message }];
  return issue.keys
    .slice(0, FAULTS_MAX)
    .map((key) => ({ field: fieldPath([...issue.path, key]), reason: "is not known" }));
}

const fieldPath = (path: readonly PropertyKey[]): string =>
  path
    .map((part) => (typeof part === "number" ? `[${part}]` : `.${String(part)}`))
    .join("")
    .replace(/^\./, "")
    .slice(0, FIELD_CHARACTERS_MAX);

export const ProblemSchema = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    code: z.string(),
    detail: z.string().optional(),
    errors: z.array(z.object({ field: z.string(), reason: z.string() })).optional(),
    runId: z.string(),
  })
  .openapi("Problem");

export const json = <T extends z.ZodType>(description: string, schema: T) => ({
  description,
  content: { "application/json": { schema } },
});

export const problem = (description: string) => ({
  description,
  content: { "application/problem+json": { schema: ProblemSchema } },
});
