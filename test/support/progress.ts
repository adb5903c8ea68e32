/** Below it a test is over before anybody wonders. */
const WORTH_REPORTING_MIN = 100;
const REPORTS = 20;

/** To be called after each of `total` parts: now and then says how far a long test is, and how long it will take. */
export function progressOf(what: string, total: number): () => void {
  const startedAt = performance.now();
  const every = Math.ceil(total / REPORTS);
  let done = 0;
  return () => {
    done += 1;
    if (total < WORTH_REPORTING_MIN || done % every !== 0) return;
    const seconds = (performance.now() - startedAt) / 1000;
    const left = Math.round((seconds * Math.max(0, total - done)) / done);
    process.stderr.write(
      `${what}: ${done} of ${total} in ${Math.round(seconds)} s, ${left} s left\n`,
    );
  };
}
