import type { SequenceId } from '@quiver/protocol'
import type { InputTensor } from './adapter-pools.ts'
import type { SequenceRows } from './step-sequences.ts'

/** Keys and values as a run of the graph has them bound. */
export interface CacheBinding {
  /** Two with the same key bind the same memory. */
  readonly key: string
  readonly tensors: readonly InputTensor[]
  /** Whether the graph also gives them back, in place, as outputs `new_<name>`. */
  readonly isGivenBack: boolean
}

/** Sequences that one run of the graph computes, and what attention is told about them. */
export interface AttentionRun {
  /** In the order of their rows. */
  readonly sequences: readonly SequenceRows[]
  /** Runs of one lane take their turns in one binding. */
  readonly lane: string
  readonly inputs: readonly InputTensor[]
  readonly cache: CacheBinding
}

/** Keys and values of all sequences, in the memory that a form of the graph's attention reads and writes. */
export interface AttentionCache {
  /** Most tokens of a sequence. */
  readonly capacity: number
  readonly lanes: readonly string[]
  /** Whether sequences with several rows each are computed in one run. */
  readonly runsTogether: boolean
  /** Cuts a step into what can be computed at once. New sequences get their place here. */
  runs(sequences: readonly SequenceRows[]): AttentionRun[]
  /** Tokens of a sequence that are there; 0 of an unknown one. */
  length(sequence: SequenceId): number
  setLength(sequence: SequenceId, length: number): void
  /** Unknown sequences are ignored. */
  release(sequence: SequenceId): void
}
