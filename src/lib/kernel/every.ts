/**
 * Calls `tick` every `ms` until the returned function is called. Never keeps the process alive; `tick` must not throw.
 */
export function every(ms: number, tick: () => void): () => void {
  const timer = setInterval(tick, ms).unref();
  return () => clearInterval(timer);
}
