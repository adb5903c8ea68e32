import type { ReservedSql, Sql } from "postgres";

const CLOSE_WITHIN_S = 5;
const LOST = /^(CONNECTION_|ECONN|EPIPE|ETIMEDOUT)/;

export interface LostConnections {
  /** For `onclose` of the pool. */
  readonly onClose: (connectionId: number) => void;
  /** Makes the reservations of this pool, and its end, survive connections that Postgres dropped. */
  guard(sql: Sql): void;
}

/**
 * postgres.js writes the rollback of a transaction to a connection that is gone: a TypeError that nobody can catch, and
 * an answer that never comes, so the end of the pool waits for ever. Then it gives the dead connection to the next one.
 */
export function lostConnections(): LostConnections {
  const reservations = new Map<number, Reservation>();
  return {
    onClose: (id) => {
      const reservation = reservations.get(id);
      if (reservation !== undefined) reservation.isLost = true;
      reservations.delete(id);
    },
    guard: (sql) => {
      const reserve = sql.reserve.bind(sql);
      sql.reserve = async () => guardReservation(await reserve(), reservations);
      const end = sql.end.bind(sql);
      sql.end = (options) => end({ timeout: CLOSE_WITHIN_S, ...options });
    },
  };
}

interface Reservation {
  id: number | undefined;
  isLost: boolean;
}

function guardReservation(sql: ReservedSql, reservations: Map<number, Reservation>): ReservedSql {
  const own: Reservation = { id: undefined, isLost: false };
  const options = {
    // Not in its types: how postgres.js itself learns which connection a transaction is on.
    onexecute: ({ id }: { readonly id: number }): boolean => {
      own.id = id;
      reservations.set(id, own);
      return true;
    },
  };
  const unsafe = sql.unsafe.bind(sql);
  const run = async (...[text, parameters]: Parameters<typeof unsafe>): Promise<unknown> => {
    if (own.isLost) throw Object.assign(new Error("connection lost"), { code: "08006" });
    try {
      return await unsafe(text, parameters, options as object);
    } catch (error) {
      own.isLost ||= isLoss(error);
      throw error;
    }
  };
  const release = sql.release.bind(sql);
  return Object.assign(sql, {
    unsafe: run as unknown as typeof unsafe,
    // A lost one goes back to the pool by closing.
    release: () => {
      if (own.id !== undefined) reservations.delete(own.id);
      if (!own.isLost) release();
    },
  });
}

function isLoss(error: unknown): boolean {
  if (typeof error !== "object" || error === null) return false;
  const { code, severity } = error as Record<string, unknown>;
  return severity === "FATAL" || severity === "PANIC" || LOST.test(String(code));
}
