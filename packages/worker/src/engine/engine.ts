import type { DeviceMemory } from '@quiver/cache'
import type { SequenceId, SlotIndex } from '@quiver/protocol'
import type { ModelSpec } from '../model/model-spec.ts'

/** Fixed when the engine is made. */
export interface Capacity {
  /** Sequences whose keys and values are held at once. */
  readonly sequences: number
  /** Tokens of one sequence, prompt and answer together. */
  readonly totalTokens: number
  readonly slots: number
  readonly maxRank: number
  /** Most rows of one sequence in one step. */
  readonly chunkTokens: number
}

/**
 * One token of one sequence to be computed. Rows of a sequence stand together, positions ascending and without a gap after
 * what was computed before; all rows of a sequence use the same slot, or BASE_SLOT.
 */
export interface StepRow {
  readonly sequence: SequenceId
  /** 0-based position in the sequence. */
  readonly position: number
  readonly token: number
  readonly slot: SlotIndex
}

/** A row whose distribution over the next token is wanted, with how many of the most likely tokens (at least 1). */
export interface WantedRow {
  readonly row: number
  readonly top: number
}

export interface EngineStep {
  readonly rows: readonly StepRow[]
  /** Ascending by row. */
  readonly wanted: readonly WantedRow[]
  /** Sequences whose final hidden states are summed up (see `meanHidden`): in every step with rows of theirs, or in none. */
  readonly pooled?: readonly SequenceId[]
}

/** The distribution after one wanted row. Its arrays are valid until the next call of `step`. */
export interface RowOutput {
  readonly row: number
  /** The most likely tokens, best first, at least as many as wanted. */
  readonly topIds: readonly number[]
  /** Their natural log-probabilities. */
  readonly topLogprobs: readonly number[]
  /** Natural log-probabilities of the whole vocabulary, [vocab]; not to be written to. */
  readonly logprobs: Float32Array
  /**
   * What turns log-probabilities back into the model's logits (logit = log-probability + logSumExp), which the repetition
   * penalty is defined on. Absent where a device gives log-probabilities only; the penalty is then applied to those.
   */
  readonly logSumExp?: number
}

/** In the order of `wanted`. */
export type StepResult = readonly RowOutput[]

/**
 * Copies of keys and values, for a cache of the beginnings of prompts. What a copy looks like inside is the engine's own affair, but it is the
 * same for as many tokens from any position; computing on it goes on as on what was copied, to the last bit.
 */
export interface PrefixMemory {
  /** Bytes of one token's keys and values. */
  readonly tokenBytes: number
  /**
   * Copies those of `count` tokens from position `from` on, which earlier steps computed and nothing writes to any more: so also
   * during a step.
   * @param target [count × tokenBytes]
   */
  copyOut(sequence: SequenceId, from: number, count: number, target: Uint8Array): void
  /** Makes a sequence go on with copied ones from position `from` on, where it stands; a new one stands at 0. Not during a step. */
  copyIn(sequence: SequenceId, from: number, count: number, source: Uint8Array): void
}

/** One base model with fixed capacity. Not re-entrant: the batching loop owns it and calls one `step` at a time. */
export interface Engine extends DeviceMemory {
  readonly model: ModelSpec
  readonly capacity: Capacity
  /** Short names for `/info`: what computes, where, and how adapters are applied. */
  readonly description: { readonly kind: string; readonly device: string; readonly lora: string }
  /** Sequences with several rows each are computed in one run; else each of them costs a run of its own. */
  readonly runsTogether: boolean
  /** Absent: its keys and values cannot be copied, and every prompt is computed whole. */
  readonly prefix?: PrefixMemory
  step(step: EngineStep): Promise<StepResult>
  /**
   * The mean of the final hidden states, after the last norm, over all rows of a pooled sequence so far, [hidden]. The
   * caller's own copy. Not during a step.
   */
  meanHidden(sequence: SequenceId): Float32Array
  /**
   * Forgets what was computed of a sequence from position `length` on, such as rows that were guessed wrongly; the next row
   * has that position. Not of pooled sequences, whose sums cannot be taken back. Not during a step.
   */
  truncate(sequence: SequenceId, length: number): void
  /** Forgets a sequence's keys and values, and its hidden states. Unknown sequences are ignored. Not during a step. */
  release(sequence: SequenceId): void
  close(): Promise<void>
}

export type { SequenceId, SlotIndex }
