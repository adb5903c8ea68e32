/** Characters that JSON can hold and the database cannot. */
const UNSTORABLE = /\\u0000/;

/** Whether the database takes it as it is: no NUL, no half of a character, and not more than `bytesMax`. */
export function isStorable(value: unknown, bytesMax: number): boolean {
  const text = JSON.stringify(value) ?? "null";
  return (
    !UNSTORABLE.test(text) &&
    text.isWellFormed() &&
    !hasLoneSurrogate(text) &&
    Buffer.byteLength(text) <= bytesMax
  );
}

/** JSON writes halves of characters as escapes. */
const hasLoneSurrogate = (text: string): boolean => /\\ud[89a-f]/i.test(text);

/** What is kept of a report: as it is, or only its size when the database cannot take it. */
export function toStorable(value: unknown, bytesMax: number): unknown {
  if (isStorable(value, bytesMax)) return value ?? null;
  return { dropped: "not storable", bytes: Buffer.byteLength(JSON.stringify(value) ?? "") };
}
