import type { SequenceId } from '@quiver/protocol'
import type { BatchState } from './batch-state.ts'
import type { SequenceInit } from './step/sequence.ts'
import type { Sharing } from './step/service-ledger.ts'

/**
 * What brings sequences to their tokens: the batch loop, step by step with an engine of this process, or the stream loop with
 * a server that runs its own batch. Whoever submits need not know which.
 */
export interface Runner {
  /** Sequences that have arrived and are not admitted yet. */
  readonly waitingCount: number
  /** How long whatever computes has given no sign of life although something is to be computed; 0 while all is well. */
  readonly stepAgeMs: number
  /** Tokens that end a text: those of the model and of its tokenizer. */
  readonly eosTokenIds: ReadonlySet<number>
  readonly isOpen: boolean
  /** What who places requests wants to know. */
  busyness(): Busyness
  /** A tenant's part of it. */
  sharing(tenant: string): Sharing
  /** Takes a sequence over, with its lease. After the end it is answered at once with an error. */
  submit(init: SequenceInit): void
  /** The client has gone. Unknown sequences are ignored. */
  cancel(id: SequenceId): void
  /** Resolves once nothing waits or runs, at the latest with the runner's end. */
  whenEmpty(): Promise<void>
  /** Ends every sequence with `draining`, then waits for loads that are under way. */
  close(): Promise<void>
  state(): BatchState
}

export interface Busyness {
  readonly running: number
  readonly waiting: number
  /** Prompt tokens that are still to compute. */
  readonly queuedTokens: number
  readonly tokensPerSecond: number
  readonly turnoverMs: number
}
