/** A server under the same load as the others. */

/** One request: exactly `newTokens` tokens, greedily, streamed. */
export interface Ask {
  readonly prompt: string
  /** The same prompt as tokens of the model that all of them serve. */
  readonly promptIds: readonly number[]
  readonly newTokens: number
  /** Which of the load's adapters, counted from 0; the base model where undefined. */
  readonly adapter?: number | undefined
}

/** In milliseconds from the sending of the request. */
export interface Answered {
  readonly firstTokenMs: number
  readonly endMs: number
  /** When each event with tokens came; absent where the server does not stream over HTTP. */
  readonly arrivalsMs?: readonly number[]
}

export interface Contestant {
  /** Part of figures' names: `vllm`. */
  readonly id: string
  readonly title: string
  readonly version: string
  /** It answers rows of one batch with one adapter only, so it is given the first for all. */
  readonly hasOneAdapter: boolean
  /** @throws ServingError `internal` when it does not answer exactly the tokens asked for */
  stream(ask: Ask): Promise<Answered>
}

/** What every contestant is started with. */
export interface Equipment {
  /** PEFT folders of the load's adapters, rank 16 on all modules. */
  readonly adapterFolders: readonly string[]
  /** The model's GGUF file. */
  readonly gguf: string
  /** `.peers`: what bench/setup-peers.sh installed. */
  readonly peers: string
}
