import { parsePayload } from "./read-delivery.ts";
import type { WorkEnding, WorkKind, WorkResult, WorkRun, WorkSpec } from "./work.ts";

/** A kind of work whose payload type is nobody else's business. */
export interface BoundWork<Services> {
  readonly spec: WorkSpec;
  /** @throws AppError also `work_version_unknown`, `work_payload_invalid` */
  handle(services: Services, version: number, payload: unknown, run: WorkRun): Promise<WorkResult>;
  /** Undefined when its feature does not care how items end. */
  readonly settle?:
    | ((services: Services, version: number, payload: unknown, ending: WorkEnding) => Promise<void>)
    | undefined;
}

export function bindWork<Services, Payload>(
  kind: WorkKind<Services, Payload>,
): BoundWork<Services> {
  const { settle } = kind;
  return {
    spec: kind as WorkSpec,
    handle: async (services, version, payload, run) =>
      kind.handle(services, parsePayload(kind, version, payload), run),
    settle:
      settle &&
      (async (services, version, payload, ending) =>
        settle(services, parsePayload(kind, version, payload), ending)),
  };
}
