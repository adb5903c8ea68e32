import { createHash, randomUUID } from "node:crypto";
import type { Sql } from "postgres";
import { openDatabase, type TestDatabase } from "../../support/stack.ts";

/** Parameters by name, as rpc would send them: amounts as text, lists as arrays. */
export type Args = Readonly<Record<string, unknown>>;

export interface LedgerWorld {
  readonly database: TestDatabase;
  readonly sql: Sql;
  /** Calls `worker.<fn>` with named parameters. */
  call<T = Answer>(fn: string, args: Args, on?: Sql): Promise<T>;
  /** A shard that no other test uses, with a log of its own. */
  openShard(): Promise<LedgerShard>;
  close(): Promise<void>;
}

/** What most functions answer. */
export type Answer = Readonly<Record<string, unknown>>;

export async function openLedgerWorld(): Promise<LedgerWorld> {
  const database = await openDatabase();
  const { sql } = database;
  const types = await parameterTypes(sql);
  let shards = 0;
  const world: LedgerWorld = {
    database,
    sql,
    call: async <T>(fn: string, args: Args, on: Sql = sql) => {
      const names = Object.keys(args);
      const list = names.map((name, i) => `${name} => $${i + 1}::${types.get(`${fn}.${name}`)}`);
      const values = names.map((name) => withoutBigints(args[name] ?? null)) as string[];
      const [row] = await on.unsafe(`select worker.${fn}(${list}) as answer`, values);
      return row?.["answer"] as T;
    },
    openShard: async () => {
      shards += 1;
      return openShard(world, shards);
    },
    close: () => database.close(),
  };
  return world;
}

/** Bigints as text, in columns too: as they cross JSON. */
const withoutBigints = (value: unknown): unknown => {
  if (typeof value === "bigint") return String(value);
  return Array.isArray(value) ? value.map(withoutBigints) : value;
};

async function parameterTypes(sql: Sql): Promise<Map<string, string>> {
  const rows = await sql<{ key: string; type: string }[]>`
    select p.proname || '.' || a.name as key, a.type::regtype::text as type
      from pg_proc p, unnest(p.proargnames, p.proargtypes::oid[]) as a (name, type)
     where p.pronamespace = 'worker'::regnamespace`;
  return new Map(rows.map(({ key, type }) => [key, type]));
}

/** A use as a producer would record it. */
export interface Use {
  readonly request?: string;
  readonly tenant?: string;
  readonly tokens?: bigint;
  readonly period?: number;
  /** Days since 1970-01-01. */
  readonly day?: number;
  readonly type?: string;
  readonly model?: string;
  readonly agent?: string;
  readonly conversation?: string;
  /** Month it asks to be billed in, when that is another one. */
  readonly bill?: number;
  /** The lineage whose loss it replays. */
  readonly replayOf?: string;
}

export interface Marker {
  readonly oi: string;
  readonly ln: number;
  readonly lc: string;
  readonly cn: number;
  readonly cc: string;
}

type Content =
  | {
      readonly kind: "use";
      readonly use: Required<Omit<Use, "bill">> & { bill: number };
      readonly uid: string;
    }
  | { readonly kind: "bad"; readonly bad: Readonly<Record<string, unknown>> }
  | { readonly kind: "marker"; readonly marker: Marker };

export type LogEntry = Content & {
  readonly n: number;
  readonly cum: bigint;
  readonly count: number;
};

/** A shard with the log that Redis would hold, and the calls that move its cursor. */
export interface LedgerShard {
  readonly shard: number;
  /** A tenant of this shard alone. */
  readonly tenant: string;
  inc(): string;
  readonly entries: LogEntry[];
  /** Appends a record. */
  record(use?: Use): LogEntry;
  /** Appends an entry that is no use; with an amount it is part of the log's arithmetic. */
  bad(bad: { raw: string; error: string; tokens?: string; tenant?: string; period?: number }): void;
  marker(marker: Marker): void;
  /** Removes entries, as a foreign XDEL would. */
  lose(...n: number[]): void;
  /** Everything after `from` and up to `to` as the arguments of usage_apply_batch. */
  batch(from: number, to?: number): Args;
  /** Applies everything after the cursor. */
  apply(overrides?: Args): Promise<Answer>;
  state(): Promise<Answer>;
  fork(cause?: string, survivingN?: number, survivingCum?: string): Promise<Answer>;
  /** Billed tokens of the shard's tenant by month, as text. */
  totals(): Promise<Record<string, string>>;
  gaps(): Promise<Answer[]>;
}

export const DAY = 20_781; // 2026-11-24
export const PERIOD = 202_611;

export const uidOf = (tenant: string, request: string): string =>
  createHash("sha256")
    .update(`${tenant}\0${request}`)
    .digest("hex")
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12}).*$/, "$1-$2-$3-$4-$5");

/** How many sessions of this database wait for a lock at this moment. */
export async function waitingLocks(sql: Sql): Promise<number> {
  const [row] = await sql`
    select count(*)::int as waiting from pg_stat_activity
     where datname = current_database() and wait_event_type = 'Lock'`;
  return row?.["waiting"];
}

async function openShard(world: LedgerWorld, shard: number): Promise<LedgerShard> {
  const entries: LogEntry[] = [];
  const tenant = `tenant-${shard}-${randomUUID().slice(0, 8)}`;
  const forkTo = (oldInc: string, newInc: string, cause: string, n: number, cum: string) =>
    world.call("usage_fork_shard", {
      p_shard: shard,
      p_old_inc: oldInc,
      p_new_inc: newInc,
      p_cause: cause,
      p_surviving_n: n,
      p_surviving_cum: cum,
    });
  let inc = randomUUID().slice(0, 8);
  let last = { n: 0, cum: 0n, count: 0 };
  const append = (content: Content, tokens: bigint, records: number): LogEntry => {
    last = { n: last.n + 1, cum: last.cum + tokens, count: last.count + records };
    const entry = { ...content, ...last };
    entries.push(entry);
    return entry;
  };
  await world.call("usage_shard_state", { p_shard: shard });
  await forkTo("", inc, "first", 0, "0");
  const state = () => world.call("usage_shard_state", { p_shard: shard });
  const batch = (from: number, to = Number.MAX_SAFE_INTEGER) => ({
    p_shard: shard,
    p_fence: null,
    p_inc: inc,
    p_prev_n: from,
    ...columnsOf(entries.filter(({ n }) => n > from && n <= to)),
  });
  return {
    shard,
    tenant,
    inc: () => inc,
    entries,
    record: (parts = {}) => {
      const use = {
        ...DEFAULT_USE,
        tenant,
        request: randomUUID(),
        bill: parts.period ?? PERIOD,
        ...parts,
      };
      const content = { kind: "use", use, uid: uidOf(use.tenant, use.request) } as const;
      return append(content, use.tokens, 1);
    },
    bad: (bad) => {
      const isInChain = bad.tokens !== undefined;
      append({ kind: "bad", bad }, BigInt(bad.tokens ?? 0), isInChain ? 1 : 0);
    },
    marker: (marker) => void append({ kind: "marker", marker }, 0n, 0),
    lose: (...gone) => {
      for (const n of gone)
        entries.splice(
          entries.findIndex((entry) => entry.n === n),
          1,
        );
    },
    batch,
    state,
    apply: async (overrides = {}) => {
      const { n } = await state();
      return world.call("usage_apply_batch", { ...batch(Number(n)), ...overrides });
    },
    fork: async (cause = "redis_rewound", survivingN = 0, survivingCum = "0") => {
      const newInc = randomUUID().slice(0, 8);
      const answer = await forkTo(inc, newInc, cause, survivingN, survivingCum);
      if (answer["status"] === "ok") inc = newInc;
      return answer;
    },
    totals: async () => {
      const rows = await world.sql`
        select period, tokens::text from worker.usage_totals where tenant = ${tenant} order by period`;
      return Object.fromEntries(rows.map((row) => [row["period"], row["tokens"]]));
    },
    gaps: async () => [
      ...(await world.sql`
        select cause, from_n, to_n, tokens_lost, recovered, entries_lost, entries_recovered
          from worker.usage_gaps where shard = ${shard} order by id`),
    ],
  };
}

const DEFAULT_USE = {
  tokens: 10n,
  period: PERIOD,
  day: DAY,
  type: "llm",
  model: "gpt-4o",
  agent: "",
  conversation: "",
  replayOf: "",
};

function columnsOf(entries: readonly LogEntry[]): Args {
  const uses = entries.flatMap((entry) => (entry.kind === "use" ? [entry] : []));
  const dims = [...new Set(uses.map(({ use }) => JSON.stringify([use.type, use.model])))];
  const last = entries.at(-1);
  return {
    p_to_n: last?.n,
    p_cum: last?.cum,
    p_count: last?.count,
    p_anchor: last?.kind === "use" ? `${last.uid}@${last.n}` : null,
    p_uid: uses.map(({ uid }) => uid),
    p_tenant: uses.map(({ use }) => use.tenant),
    p_period: uses.map(({ use }) => use.period),
    p_bill: uses.map(({ use }) => use.bill),
    p_day: uses.map(({ use }) => use.day),
    p_tokens: uses.map(({ use }) => use.tokens),
    p_dim: uses.map(({ use }) => dims.indexOf(JSON.stringify([use.type, use.model]))),
    p_dims: dims.map((dim) => JSON.parse(dim)),
    p_agent: uses.map(({ use }) => use.agent),
    p_conversation: uses.map(({ use }) => use.conversation),
    p_bad: entries.flatMap((entry) => (entry.kind === "bad" ? [{ n: entry.n, ...entry.bad }] : [])),
    p_markers: entries.flatMap((entry) => (entry.kind === "marker" ? [entry.marker] : [])),
    p_replay: uses
      .filter(({ use }) => use.replayOf !== "")
      .map(({ uid, use }) => ({ uid, day: use.day, oi: use.replayOf })),
  };
}
