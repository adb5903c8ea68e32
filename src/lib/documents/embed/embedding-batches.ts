/** A text with its place in the question. */
export interface Input {
  readonly at: number;
  readonly text: string;
  readonly tokens: number;
}

export interface BatchLimits {
  readonly inputsMax: number;
  /** Of all inputs of one request together; an input that alone has more is a batch of its own. */
  readonly tokensMax: number;
}

/** In order, each as full as the limits allow. */
export function planBatches(
  inputs: readonly Input[],
  { inputsMax, tokensMax }: BatchLimits,
): Input[][] {
  const batches: Input[][] = [];
  let tokens = 0;
  for (const input of inputs) {
    const last = batches.at(-1);
    const fits =
      last !== undefined && last.length < inputsMax && tokens + input.tokens <= tokensMax;
    if (fits) last.push(input);
    else batches.push([input]);
    tokens = fits ? tokens + input.tokens : input.tokens;
  }
  return batches;
}
