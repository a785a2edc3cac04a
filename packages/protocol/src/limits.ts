/** Bounds on everything that grows by request. Sizes in bytes, times in milliseconds. */
export const limits = {
  /** A public request's body. LoRAX and TGI have 2 MB. */
  requestBodyBytes: 2 * 1024 * 1024,
  /** One NDJSON line of a run stream. */
  runEventBytes: 4 * 1024 * 1024,
  /** Requests a worker holds beyond the running ones; more are answered `overloaded`. */
  waitingSequences: 1024,
  /** Stop sequences of one request, and their length in characters. */
  stopSequences: 16,
  stopSequenceCharacters: 256,
  /** `top_n_tokens` and `return_k_alternatives`. */
  alternativeTokens: 32,
  /** How long a request may take from arrival to its last token. */
  requestDeadlineMs: 600_000,
  /** Reading a public request's headers and body. */
  requestHeadersMs: 15_000,
  requestReadMs: 60_000,
  /** Longest pause before a comment keeps an event stream open. */
  keepAliveMs: 15_000,
} as const
