import { invariant } from "../../kernel/errors.ts";
import { type CounterDetail, type CounterPattern, parseCounterPattern } from "./counter-key.ts";

/** The settings of the legacy lanes. */
export interface LegacyConfig {
  /** Undefined = the lane is off. */
  readonly pendingKey: string | undefined;
  /** Undefined = the lane is off. */
  readonly counterPattern: CounterPattern | undefined;
  readonly counterDetail: CounterDetail;
  /** Tenants whose counters are booked, because they have no other lane. */
  readonly counterTenants: ReadonlySet<string>;
  /** How long one message works before it hands on to its continuation. */
  readonly sliceMs: number;
  /** Records of one run, and tokens that a tenant is apart. */
  readonly alertThreshold: number;
  readonly criticalThreshold: number;
  readonly isTrackingEnabled: boolean;
}

export interface LegacySettings {
  readonly usage: Pick<
    LegacyConfig,
    "sliceMs" | "alertThreshold" | "criticalThreshold" | "isTrackingEnabled"
  >;
  readonly legacyUsage: {
    readonly pendingKey?: string;
    /** Judged with all other settings at the start. */
    readonly counterPattern?: string;
    readonly counterDetail: CounterDetail;
    readonly counterTenants: readonly string[];
  };
}

export function legacyConfigOf({ usage, legacyUsage }: LegacySettings): LegacyConfig {
  const { sliceMs, alertThreshold, criticalThreshold, isTrackingEnabled } = usage;
  const { pendingKey, counterPattern, counterDetail, counterTenants } = legacyUsage;
  const pattern = counterPattern === undefined ? undefined : parseCounterPattern(counterPattern);
  invariant(counterPattern === undefined || pattern !== undefined, "the pattern was judged before");
  return {
    pendingKey,
    counterPattern: pattern,
    counterDetail,
    counterTenants: new Set(counterTenants),
    sliceMs,
    alertThreshold,
    criticalThreshold,
    isTrackingEnabled,
  };
}
