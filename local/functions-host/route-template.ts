import { StartError } from "../backends/start-error.ts";
import { type Constraint, parseConstraint } from "./route-constraints.ts";

export type RouteValues = Readonly<Record<string, string>>;
/** The values of a path that matches, percent-decoded once; undefined when it does not match. */
export type RouteMatcher = (pathname: string) => RouteValues | undefined;

/**
 * Compiles an ASP.NET route template: literals (ignoring case), `{p}`, `{p?}`, `{p=default}`, `{p:constraint}`,
 * `{a}.{b?}`, `{*rest}`. In a constraint `{{` and `}}` stand for braces.
 *
 * @throws StartError that names what is wrong with the template.
 */
export function compileRoute(template: string): RouteMatcher {
  const segments = splitTemplate(template).map((text) => parseSegment(text, template));
  refuseMisplaced(segments, template);
  return (pathname) => matchSegments(segments, splitPath(pathname));
}

interface Parameter {
  readonly name: string;
  readonly isCatchAll: boolean;
  readonly isOptional: boolean;
  readonly fallback: string | undefined;
  readonly accepts: Constraint;
}

type Segment =
  | { readonly kind: "literal"; readonly text: string }
  | { readonly kind: "parameter"; readonly parameter: Parameter }
  /** Several parts in one segment. */
  | {
      readonly kind: "pattern";
      readonly pattern: RegExp;
      readonly parameters: readonly Parameter[];
    };

/** At slashes outside of braces. */
function splitTemplate(template: string): string[] {
  const segments = [""];
  let depth = 0;
  for (const char of template.replace(/^\/+|\/+$/g, "")) {
    if (char === "{") depth++;
    if (char === "}") depth--;
    if (char === "/" && depth === 0) segments.push("");
    else segments.push(`${segments.pop()}${char}`);
  }
  if (depth !== 0) throw new StartError(`the route "${template}" has unbalanced braces.`);
  return segments.filter((segment) => segment !== "");
}

/** A parameter in braces, in which doubled braces are text; or text without braces. */
const PART = /\{(?:[^{}]|\{\{|\}\})+\}|[^{}]+/g;

function parseSegment(text: string, template: string): Segment {
  const parts = text.match(PART) ?? [];
  if (parts.join("") !== text) throw new StartError(`the route "${template}" has wrong braces.`);
  if (!text.includes("{")) return { kind: "literal", text: text.toLowerCase() };
  const only = parts.length === 1 ? parts[0] : undefined;
  return only === undefined
    ? parsePattern(parts, template)
    : { kind: "parameter", parameter: parseParameter(only) };
}

const escapeRegex = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** The last parameter may be missing together with the dot before it. */
function parsePattern(parts: readonly string[], template: string): Segment {
  const parameters: Parameter[] = [];
  let source = "";
  for (const [index, part] of parts.entries()) {
    if (!part.startsWith("{")) {
      source += escapeRegex(part);
      continue;
    }
    const parameter = parseParameter(part);
    const isLast = index === parts.length - 1;
    if (parameter.isCatchAll || (parameter.isOptional && !(isLast && source.endsWith("\\.")))) {
      throw new StartError(`the route "${template}" has "${part}" where it cannot be.`);
    }
    parameters.push(parameter);
    source = parameter.isOptional ? `${source.slice(0, -2)}(?:\\.(.+?))?` : `${source}(.+?)`;
  }
  return { kind: "pattern", pattern: new RegExp(`^${source}$`, "is"), parameters };
}

const PARAMETER = /^(\*{0,2})([^:=?*]+)(.*?)(\?)?$/s;

function parseParameter(braced: string): Parameter {
  const text = braced.slice(1, -1).replaceAll("{{", "{").replaceAll("}}", "}");
  const [, stars = "", name = "", rest = "", question] = PARAMETER.exec(text) ?? [];
  if (name === "") throw new StartError(`the route parameter "${braced}" has no name.`);
  const { constraints, fallback } = parseTail(rest, braced);
  const checks = constraints.map(parseConstraint);
  return {
    name,
    isCatchAll: stars !== "",
    isOptional: question !== undefined,
    fallback,
    accepts: (value) => checks.every((check) => check(value)),
  };
}

/** One constraint: up to a closing parenthesis that ends it, or a name alone. */
const CONSTRAINT = /^:(\w+\(.*?\)(?=$|:|=)|\w+(?=$|:|=))/s;

function parseTail(
  tail: string,
  braced: string,
): { constraints: string[]; fallback: string | undefined } {
  const constraints: string[] = [];
  let rest = tail;
  for (let match = CONSTRAINT.exec(rest); match?.[1] !== undefined; match = CONSTRAINT.exec(rest)) {
    constraints.push(match[1]);
    rest = rest.slice(match[0].length);
  }
  if (rest === "") return { constraints, fallback: undefined };
  if (rest.startsWith("=")) return { constraints, fallback: rest.slice(1) };
  throw new StartError(`the route parameter "${braced}" is not understood at "${rest}".`);
}

function refuseMisplaced(segments: readonly Segment[], template: string): void {
  const catchAll = segments.findIndex((it) => it.kind === "parameter" && it.parameter.isCatchAll);
  if (catchAll >= 0 && catchAll < segments.length - 1) {
    throw new StartError(`the route "${template}" goes on after its catch-all.`);
  }
  const names = segments.flatMap(namesOf).map((name) => name.toLowerCase());
  if (new Set(names).size < names.length) {
    throw new StartError(`the route "${template}" uses a parameter twice.`);
  }
}

function namesOf(segment: Segment): string[] {
  if (segment.kind === "literal") return [];
  if (segment.kind === "parameter") return [segment.parameter.name];
  return segment.parameters.map(({ name }) => name);
}

function splitPath(pathname: string): string[] {
  const trimmed = pathname.replace(/^\/+|\/+$/g, "");
  return trimmed === "" ? [] : trimmed.split("/").map(decode);
}

/** Once, and without `%2F`: a slash in a value must not become one in the path. */
function decode(part: string): string {
  try {
    const pieces = part.split(/(%2f)/i);
    return pieces
      .map((piece, index) => (index % 2 === 1 ? piece : decodeURIComponent(piece)))
      .join("");
  } catch {
    return part;
  }
}

function matchSegments(
  segments: readonly Segment[],
  parts: readonly string[],
): RouteValues | undefined {
  const values: Record<string, string> = {};
  for (const [index, segment] of segments.entries()) {
    const isLast = segment.kind === "parameter" && segment.parameter.isCatchAll;
    const part = isLast && index < parts.length ? parts.slice(index).join("/") : parts[index];
    const found = matchSegment(segment, part);
    if (found === undefined) return undefined;
    Object.assign(values, found);
    if (isLast) return values;
  }
  return parts.length > segments.length ? undefined : values;
}

function matchSegment(segment: Segment, part: string | undefined): RouteValues | undefined {
  switch (segment.kind) {
    case "literal":
      return part?.toLowerCase() === segment.text ? {} : undefined;
    case "parameter":
      return matchParameter(segment.parameter, part);
    case "pattern":
      return matchPattern(segment, part);
  }
}

function matchParameter(parameter: Parameter, part: string | undefined): RouteValues | undefined {
  const { name, isCatchAll, isOptional, fallback, accepts } = parameter;
  const value = part ?? fallback;
  if (value === undefined) return isOptional || isCatchAll ? {} : undefined;
  return value !== "" && accepts(value) ? { [name]: value } : undefined;
}

function matchPattern(
  { pattern, parameters }: Extract<Segment, { kind: "pattern" }>,
  part: string | undefined,
): RouteValues | undefined {
  const match = pattern.exec(part ?? "");
  if (match === null) return undefined;
  const values: Record<string, string> = {};
  for (const [index, { name, accepts }] of parameters.entries()) {
    const value = match[index + 1];
    if (value === undefined) continue;
    if (!accepts(value)) return undefined;
    values[name] = value;
  }
  return values;
}
