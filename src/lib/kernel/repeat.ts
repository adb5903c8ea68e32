export interface Repetition {
  stop(): void;
}

/**
 * Calls `work` every `ms`, first after `ms`; the next wait begins when the call has ended, so calls never overlap. It
 * does not keep the process alive. What `work` throws is lost: it handles its own failures.
 */
export function repeatEvery(ms: number, work: () => Promise<void>): Repetition {
  let isStopped = false;
  let timer: NodeJS.Timeout;
  const wait = () => {
    if (!isStopped) timer = setTimeout(beat, ms).unref();
  };
  const beat = () => void work().then(wait, wait);
  wait();
  return {
    stop: () => {
      isStopped = true;
      clearTimeout(timer);
    },
  };
}

/** Calls `work` once, after `ms`, unless it is stopped before. It does not keep the process alive. */
export function callAfter(ms: number, work: () => void): Repetition {
  const timer = setTimeout(work, ms).unref();
  return { stop: () => clearTimeout(timer) };
}
