/** Bounds on everything that grows by request. Sizes in bytes, times in milliseconds. */
export const limits = {
  /** A public request's body. LoRAX and TGI have 2 MB. */
  requestBodyBytes: 2 * 1024 * 1024,
  /** Values in a public request's JSON, and how deep they may be nested. */
  jsonValues: 20_000,
  jsonDepth: 64,
  /** One NDJSON line of a run stream. */
  runEventBytes: 4 * 1024 * 1024,
  /** A run request's body: a public one with room for the gateway's own fields. */
  runRequestBytes: 4 * 1024 * 1024,
  /** Events of one run that its reader has not taken yet; a reader further behind is cut off. */
  runBufferBytes: 1024 * 1024,
  /** How long a reader may take for the last events of a run that is over. */
  runFlushMs: 15_000,
  /** A worker whose step takes longer than this is not healthy. */
  stepAgeMs: 20_000,
  /** A worker says at least this often that it is there, to each gateway that listens. */
  eventHeartbeatMs: 1_000,
  /** News of a worker that a gateway has not taken yet; a gateway further behind is cut off. A snapshot of 10,000 adapters takes one. */
  eventsBufferBytes: 4 * 1024 * 1024,
  /** An unused connection between a gateway and a worker is closed after this. */
  connectionIdleMs: 60_000,
  /** Adapters of one `merged_adapters`: the source weights of all of them are in memory while they are merged. */
  mergedAdapters: 8,
  /** Requests a worker holds beyond the running ones; more are answered `overloaded`. */
  waitingSequences: 1024,
  /** Of one tenant, unless the operator says otherwise: requests that wait, and prompt tokens of them. */
  tenantWaitingSequences: 512,
  tenantWaitingTokens: 524_288,
  /** Adapters of one tenant that are on their way at once. */
  tenantLoads: 8,
  /** Tenants that have metrics of their own. */
  namedTenants: 100,
  /** A tenant's share beside others, between these. */
  tenantWeightAtLeast: 0.01,
  tenantWeightAtMost: 100,
  /** Tenants, and adapters of each, whose service is counted; above what can wait and run at once. */
  countedTenants: 4096,
  countedAdapters: 4096,
  /** Stop sequences of one request by default, and their length in characters. */
  stopSequences: 16,
  /** The most that may be allowed with --max-stop-sequences. */
  stopSequencesAtMost: 64,
  stopSequenceCharacters: 256,
  /** `top_n_tokens` and `return_k_alternatives`. */
  alternativeTokens: 32,
  /**
   * Tokens and alternatives that the choices of one answer may list together where it is not streamed: all are kept until the last
   * one came, and become some ninety bytes of JSON each. 32,768 tokens with five alternatives, or 4,096 with twenty twice.
   */
  answerTokens: 192 * 1024,
  /** A JSON schema's text, and how deep it may be nested. */
  grammarBytes: 64 * 1024,
  grammarDepth: 32,
  /** A regular expression. */
  grammarPatternCharacters: 4096,
  /** Tools of one chat request, and calls that one answer can be forced to make. */
  tools: 128,
  forcedCalls: 8,
  /** An adapter's own chat template, and a conversation that it rendered, in characters. */
  chatTemplateBytes: 64 * 1024,
  renderedCharacters: 1024 * 1024,
  /** Runs of one request: its choices, or the answers they are the best of. */
  choices: 16,
  /** `best_of` of the LoRAX routes, and what it is there by default. */
  bestOf: 2,
  /** Texts of one embeddings request, as many as OpenAI allows, and how many of them are computed at once. */
  embeddingInputs: 2048,
  embeddingLanes: 4,
  /** Tokens that one request weighs with `logit_bias`. */
  logitBiases: 1024,
  /** Length of a text that `/tokenize` takes. */
  tokenizeCharacters: 256 * 1024,
  /** `cache_salt` of the OpenAI routes. */
  cacheSaltCharacters: 256,
  /** How long a request may take from arrival to its last token. */
  requestDeadlineMs: 600_000,
  /** How long it waits for its adapter to arrive, unless the operator says otherwise. */
  adapterArrivalMs: 60_000,
  /** An unused connection of a client is closed after this: later than load balancers, which take 60 s, give it up themselves. */
  clientIdleMs: 75_000,
  /** Reading a public request's headers and body. */
  requestHeadersMs: 15_000,
  requestReadMs: 60_000,
  /** Events of one public stream that its client has not taken yet; beyond that its run is held up. */
  streamBufferBytes: 1024 * 1024,
  /** A client that has left a full buffer or the end of its stream lying for this long is cut off. */
  slowReaderMs: 60_000,
  /** Longest pause before a comment keeps an event stream open. */
  keepAliveMs: 15_000,
} as const
