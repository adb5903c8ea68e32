import { StartError } from "../backends/start-error.ts";
import type { HostedFunction, TriggerOf } from "./hosted-function.ts";
import { compileRoute, type RouteMatcher, type RouteValues } from "./route-template.ts";

export type HttpFunction = HostedFunction<TriggerOf<"http">>;

export interface Route {
  readonly fn: HttpFunction;
  /** With the prefix, without a leading slash. */
  readonly path: string;
  readonly match: RouteMatcher;
}

export interface FoundRoute {
  readonly fn: HttpFunction;
  readonly params: RouteValues;
}

/** The host keeps paths that start like this for itself; it compares the beginning, not the segment. */
const RESERVED = /^(admin|runtime)/i;

/**
 * The routes in the order of their functions, which is the only precedence there is: the first that matches wins, and
 * a route does not win by being more specific.
 *
 * @throws StartError for a reserved route, or two functions on one route and method.
 */
export function buildRoutes(functions: readonly HttpFunction[], prefix: string): Route[] {
  return functions.map((fn, index) => {
    const { route } = fn.trigger;
    if (RESERVED.test(route)) {
      throw new StartError(
        `Function "${fn.name}": the route "${route}" is reserved; none may start with admin or runtime.`,
      );
    }
    refuseClash(fn, functions.slice(0, index));
    const path = [prefix, route].filter((part) => part !== "").join("/");
    return { fn, path, match: compile(path, fn.name) };
  });
}

function refuseClash(fn: HttpFunction, earlier: readonly HttpFunction[]): void {
  const { route, methods } = fn.trigger;
  const isSame = (other: HttpFunction) =>
    other.trigger.route.toLowerCase() === route.toLowerCase() &&
    (methods.some((method) => takes(other, method)) || methods.length === 0);
  const other = earlier.find(isSame);
  if (other === undefined) return;
  throw new StartError(
    `Function "${fn.name}": the route "${route}" with one of its methods belongs to function "${other.name}".`,
  );
}

/** An empty list of methods means all. */
const takes = ({ trigger }: HttpFunction, method: string): boolean =>
  trigger.methods.length === 0 || trigger.methods.includes(method);

function compile(path: string, functionName: string): RouteMatcher {
  try {
    return compileRoute(path);
  } catch (error) {
    if (!(error instanceof StartError)) throw error;
    throw new StartError(`Function "${functionName}": ${error.message}`);
  }
}

/** A known path with another method is not found either: the host never answers 405. */
export function findRoute(
  routes: readonly Route[],
  method: string,
  pathname: string,
): FoundRoute | undefined {
  for (const { fn, match } of routes) {
    if (!takes(fn, method)) continue;
    const params = match(pathname);
    if (params !== undefined) return { fn, params };
  }
  return undefined;
}
