const SPAN = /^(?:(\d+)\.)?([01]?\d|2[0-3]):([0-5]?\d)(?::([0-5]?\d)(?:\.(\d{1,7}))?)?$/;

/** `[d.]hh:mm[:ss[.fffffff]]`, as .NET writes a time span, in milliseconds; undefined when it is none. */
export function parseTimeSpan(text: string): number | undefined {
  const match = SPAN.exec(text);
  if (match === null) return undefined;
  const [days, hours, minutes, seconds] = match.slice(1, 5).map((part) => Number(part ?? 0));
  const fraction = Number(`0.${match[5] ?? 0}`);
  const inHours = (days ?? 0) * 24 + (hours ?? 0);
  return Math.round(((inHours * 60 + (minutes ?? 0)) * 60 + (seconds ?? 0) + fraction) * 1000);
}
