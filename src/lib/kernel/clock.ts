/** Time as a port: features ask the clock, tests set it. Instants are milliseconds since 1970, UTC. */
export interface Clock {
  now(): number;
}

export const systemClock: Clock = { now: () => Date.now() };
