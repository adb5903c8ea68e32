/** Part of every pipeline key: it changes whenever the same blocks would give other chunks. */
export const CHUNKER_VERSION = "chunks-v1";
