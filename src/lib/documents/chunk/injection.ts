import type { InjectionFlags } from "../chunk.ts";
import {
  INJECTION_CLASSES,
  INJECTION_PATTERNS,
  type InjectionPattern,
} from "./injection-patterns.ts";
import { unveil } from "./unveil.ts";

/** From here on a text deserves distrust: a reader should quote it and act on nothing of it. */
export const INJECTION_SUSPECT_MIN = 0.5;

/**
 * Looks for attempts to instruct the machine that reads the text. It lowers noise and proves nothing: a text without
 * flags is not safe. The score counts the surest pattern of each class as independent evidence: 1 − Π(1 − weight).
 */
export function flagInjection(text: string): InjectionFlags {
  const { views, findings } = unveil(text);
  const matched = INJECTION_PATTERNS.filter(
    ({ id, test }) =>
      findings.includes(id) || (test !== undefined && views.some((view) => test.test(view))),
  );
  const flags = INJECTION_CLASSES.filter((kind) => matched.some((it) => it.class === kind));
  const doubt = flags.reduce((product, kind) => product * (1 - surest(matched, kind)), 1);
  return {
    riskScore: Math.round((1 - doubt) * 1000) / 1000,
    flags,
    patterns: matched.map(({ id }) => id),
  };
}

const surest = (matched: readonly InjectionPattern[], kind: string): number =>
  Math.max(...matched.filter((it) => it.class === kind).map(({ weight }) => weight));
