import { Temporal } from "temporal-polyfill";

const HOURS_OF_A_DAY = 24;

/** A slot as a clock on the wall shows it. */
export function localTime(timeZone: string, at: number) {
  const local = Temporal.Instant.fromEpochMilliseconds(at).toZonedDateTimeISO(timeZone);
  return {
    localTime: `${local.toPlainDateTime().toString()}${local.offset}`,
    isClockChangeDay: local.hoursInDay !== HOURS_OF_A_DAY,
  };
}
