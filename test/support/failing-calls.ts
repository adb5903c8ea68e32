/** Ports whose n-th call fails: before it takes effect (killed on the way there) or after (the answer was lost). */
export interface Saboteur {
  /** Wraps every method of a port; all wrapped ports share one count. */
  wrap<T extends object>(port: T): T;
  /** Calls seen so far. */
  calls(): number;
}

export class Killed extends Error {
  override readonly name = "Killed";
}

/** `failAt` counts from 1; Infinity never fails and only counts. */
export function failCalls(failAt: number, when: "before" | "after"): Saboteur {
  let calls = 0;
  const guard =
    (method: (...args: unknown[]) => Promise<unknown>, port: object) =>
    async (...args: unknown[]) => {
      calls += 1;
      const isHit = calls === failAt;
      if (isHit && when === "before") throw new Killed(`before call ${calls}`);
      const result = await method.apply(port, args);
      if (isHit) throw new Killed(`after call ${calls}`);
      return result;
    };
  return {
    calls: () => calls,
    wrap: (port) =>
      Object.fromEntries(
        Object.entries(port).map(([name, member]) => [
          name,
          typeof member === "function" ? guard(member as never, port) : member,
        ]),
      ) as typeof port,
  };
}
