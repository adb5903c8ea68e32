import { type ChainableCommander, type Cluster, Command, type Redis } from "ioredis";
import { AppError } from "../kernel/errors.ts";
import type { RedisCommand } from "../kernel/redis.ts";
import { type Answer, toAnswer } from "./build-driver.redis.ts";
import { clientError } from "./classify-error.redis.ts";

export type RedisClient = Redis | Cluster;

/**
 * Each command on its own, one pipeline for each hash slot of a cluster. Rejects when nothing was answered.
 */
export async function sendEach(
  client: RedisClient,
  commands: readonly RedisCommand[],
): Promise<readonly Answer[]> {
  return toAnswers(await outcomesOf(client, commands));
}

/** MULTI … EXEC. Rejects when it was discarded, with the reason rather than with EXECABORT. */
export async function sendAtomic(
  client: RedisClient,
  commands: readonly RedisCommand[],
): Promise<readonly Answer[]> {
  const multi = client.multi();
  for (const command of commands) call(multi, command);
  try {
    return toAnswers((await multi.exec()) ?? []);
  } catch (error) {
    throw clientError(reasonOf(error));
  }
}

/** As the client reports it: an error, or what Redis answered. */
type Outcome = readonly [error: Error | null, reply?: unknown];
type Outcomes = Promise<readonly Outcome[]>;

/** The client reshapes some replies by the lower-case name of the command; upper case keeps them as they came. */
const call = (to: ChainableCommander | RedisClient, [name, ...args]: RedisCommand): unknown =>
  to.call(name.toUpperCase(), args);

function outcomesOf(client: RedisClient, commands: readonly RedisCommand[]): Outcomes {
  if (commands.length === 1) return oneByOne(client, commands);
  return client.isCluster ? bySlot(client, commands) : inPipeline(client, commands);
}

const oneByOne = (client: RedisClient, commands: readonly RedisCommand[]): Outcomes =>
  Promise.all(
    commands.map((command) =>
      Promise.resolve(call(client, command)).then(
        (reply): Outcome => [null, reply],
        (error): Outcome => [error],
      ),
    ),
  );

async function inPipeline(client: RedisClient, commands: readonly RedisCommand[]): Outcomes {
  const pipeline = client.pipeline();
  for (const command of commands) call(pipeline, command);
  return (await pipeline.exec()) ?? [];
}

/** At the same time. The order within a slot is kept. */
async function bySlot(client: RedisClient, commands: readonly RedisCommand[]): Outcomes {
  const outcomes: Outcome[] = [];
  const groups = Map.groupBy(commands.entries(), ([, command]) => slotOf(command)).values();
  const sendGroup = async (group: readonly (readonly [place: number, RedisCommand])[]) => {
    const part = await ofOneSlot(
      client,
      group.map(([, command]) => command),
    );
    for (const [i, [place]] of group.entries()) outcomes[place] = part[i] ?? [null];
  };
  await Promise.all(Array.from(groups, sendGroup));
  return outcomes;
}

/** A command whose keys lie on several slots makes the client refuse all; sent alone, Redis refuses just that one. */
const ofOneSlot = (client: RedisClient, commands: readonly RedisCommand[]): Outcomes =>
  inPipeline(client, commands).catch(() => oneByOne(client, commands));

/** Null for a command without a key, which any node can answer. */
const slotOf = ([name, ...args]: RedisCommand): number | null => new Command(name, args).getSlot();

function toAnswers(outcomes: readonly Outcome[]): readonly Answer[] {
  const answers = outcomes.map(([error, reply]) =>
    error === null ? toAnswer(reply) : clientError(error),
  );
  const [first] = answers;
  if (first instanceof AppError && outcomes.every(([error]) => isUnanswered(error))) throw first;
  return answers;
}

const isUnanswered = (error: Error | null): boolean =>
  error !== null && error.name !== "ReplyError";

/** The client keeps why a command was not queued beside the EXECABORT that follows from it. */
function reasonOf(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const { previousErrors } = error as { previousErrors?: unknown };
  return Array.isArray(previousErrors) ? (previousErrors[0] ?? error) : error;
}
