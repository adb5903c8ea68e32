import type { CounterDetail, CounterPattern } from "./counter-key.ts";

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
