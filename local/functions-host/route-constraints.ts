import { StartError } from "../backends/start-error.ts";

export type Constraint = (value: string) => boolean;

const GUID = /^(?:[0-9a-f]{32}|[{(]?[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}[)}]?)$/i;
const REAL = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

const PLAIN: Readonly<Record<string, Constraint>> = {
  int: (value) => isIntegerWithin(value, 32n),
  long: (value) => isIntegerWithin(value, 64n),
  bool: (value) => /^(true|false)$/i.test(value),
  guid: (value) => GUID.test(value),
  alpha: (value) => /^[a-z]*$/i.test(value),
  decimal: (value) => /^[+-]?(\d+\.?\d*|\.\d+)$/.test(value),
  double: (value) => REAL.test(value),
  float: (value) => REAL.test(value),
  datetime: (value) => /^\d{4}-\d\d-\d\d/.test(value) && !Number.isNaN(Date.parse(value)),
  required: (value) => value !== "",
};

function isIntegerWithin(value: string, bits: bigint): boolean {
  if (!/^[+-]?\d{1,19}$/.test(value)) return false;
  const limit = 1n << (bits - 1n);
  const number = BigInt(value.replace("+", ""));
  return number >= -limit && number < limit;
}

const number = (value: string): number =>
  isIntegerWithin(value, 64n) ? Number(value) : Number.NaN;

type Bounded = (value: string, low: number, high: number) => boolean;

/** A constraint with one bound checks it as both. */
const BOUNDED: Readonly<Record<string, Bounded>> = {
  minlength: (value, low) => value.length >= low,
  maxlength: (value, low) => value.length <= low,
  length: (value, low, high) => value.length >= low && value.length <= high,
  min: (value, low) => number(value) >= low,
  max: (value, low) => number(value) <= low,
  range: (value, low, high) => number(value) >= low && number(value) <= high,
};

/**
 * A constraint of an ASP.NET route, such as `int`, `length(3,5)` or `regex(^(a|b)$)`.
 *
 * @throws StartError when this host does not know it.
 */
export function parseConstraint(text: string): Constraint {
  const [, name = text, argument] = /^(\w+)\((.*)\)$/s.exec(text) ?? [];
  const kind = name.toLowerCase();
  if (argument === undefined) return known(PLAIN[kind], text);
  if (kind === "regex") return regex(argument, text);
  const bounded = known(BOUNDED[kind], text);
  const [low = Number.NaN, high = low] = argument.split(",").map(Number);
  if (Number.isNaN(low) || Number.isNaN(high)) throw unknown(text);
  return (value) => bounded(value, low, high);
}

const unknown = (text: string) => new StartError(`the route constraint "${text}" is not known.`);

function known<T>(found: T | undefined, text: string): T {
  if (found === undefined) throw unknown(text);
  return found;
}

/** Ignores case, as ASP.NET does. */
function regex(source: string, text: string): Constraint {
  try {
    const pattern = new RegExp(source, "i");
    return (value) => pattern.test(value);
  } catch (error) {
    throw new StartError(`the route constraint "${text}" is not valid: ${String(error)}`);
  }
}
