import type { SlotView } from '@quiver/cache'
import type { AdapterDigest, SequenceId, SlotIndex } from '@quiver/protocol'
import type { StepRow, WantedRow } from '../engine/engine.ts'
import type { DraftRules } from './draft-lengths.ts'
import type { Draft } from './drafter.ts'
import type { Charge, SequenceClient, TenantService } from './service-ledger.ts'
import type { StepPace } from './step-times.ts'

/** `cancelled`: the client has gone. `failed`: its adapter cannot be had. Both end it at the next plan. */
export type SequenceFate = 'live' | 'cancelled' | 'failed'

/** What a plan needs to know of any sequence. Times are monotonic milliseconds, lengths are tokens. */
interface SequenceView {
  readonly sequence: SequenceId
  readonly client: Pick<SequenceClient, 'tenant' | 'priority'>
  readonly deadlineAtMs: number
  readonly fate: SequenceFate
  /** The prompt and what was generated so far. */
  readonly tokens: readonly number[]
  readonly promptLength: number
  /** Most likely tokens wanted beside each generated one, at least 1. */
  readonly top: number
  /** The distributions of all prompt rows are wanted, not only the last. */
  readonly promptDetails: boolean
  /** The mean of its hidden states is wanted, and no token. */
  readonly embeds: boolean
}

export interface WaitingView extends SequenceView {
  /** `ready`: in RAM, so that it can be put into a slot. `arriving`: it cannot, but may still be in one. */
  readonly adapter:
    | { readonly kind: 'base' }
    | { readonly kind: 'adapter'; readonly digest: AdapterDigest; readonly state: 'arriving' | 'ready' }
  /** Tokens at the beginning of its prompt that can be copied instead of computed; absent: none. */
  readonly cached?: number
  readonly arrivedAtMs: number
  /** An adapter that is still arriving then comes too late. */
  readonly arrivesByMs: number
}

export interface RunningView extends SequenceView {
  /** How it may go on; absent: nobody guesses, or nothing was found. Only of sequences whose next row is their last token's. */
  readonly draft?: Draft
  /** Tokens whose keys and values the engine holds. */
  readonly computed: number
  readonly adapter:
    | { readonly kind: 'base' }
    | { readonly kind: 'adapter'; readonly digest: AdapterDigest; readonly slot: SlotIndex; readonly generation: number }
}

/** A snapshot of all that one step is decided on. */
export interface StepView {
  readonly nowMs: number
  /** In the order of admission. */
  readonly running: readonly RunningView[]
  /** In the order of their coming. */
  readonly waiting: readonly WaitingView[]
  /** Every slot, in the order of its index. */
  readonly slots: readonly SlotView[]
  /** The service that tenants have had: of each that is here, or was lately. Absent: nobody counts, and all are alike. */
  readonly tenants?: readonly TenantService[]
  /** How long steps take; absent: nobody measures, or nothing was measured yet. Prompts then fill the chunk. */
  readonly pace?: StepPace
}

export interface StepLimits {
  /** Sequences that run at once. */
  readonly sequences: number
  /** Share of the places, 0 … below 1, that is kept for tenants who are expected back (`Places`); absent: none. */
  readonly reservedShare?: number
  /** Prompt rows in one step, over all sequences: the longest pause that a prompt can put between two tokens of others. */
  readonly chunkTokens: number
  /** true: chunks are cut to what running streams can bear, by `pace`; absent: they are whole. */
  readonly keepsPace?: boolean
  /** Absent: drafts are not computed. */
  readonly drafts?: DraftRules
}

/** `expired`: its deadline has passed. `late`: its adapter has not arrived in time; the load goes on without it. */
export interface PlannedFinish {
  readonly sequence: SequenceId
  readonly cause: 'cancelled' | 'expired' | 'failed' | 'late'
}

/** Put `digest` into `slot`, whose generation was `generation` when this was decided; its occupant, if any, is evicted. */
export interface PlannedLoad {
  /** The waiting sequence whose adapter lease the load uses. */
  readonly sequence: SequenceId
  readonly digest: AdapterDigest
  readonly slot: SlotIndex
  readonly generation: number
}

/** A waiting sequence starts to run, with this slot. */
export type Admission =
  | { readonly sequence: SequenceId; readonly kind: 'base' }
  | {
      readonly sequence: SequenceId
      readonly kind: 'adapter'
      readonly digest: AdapterDigest
      readonly slot: SlotIndex
      readonly generation: number
    }

/** The rows of one sequence in a step: `rows.slice(firstRow, firstRow + rowCount)`. */
export interface SequenceRows {
  readonly sequence: SequenceId
  readonly slot: SlotIndex
  readonly phase: 'prefill' | 'decode'
  readonly firstRow: number
  readonly rowCount: number
  /**
   * Guessed tokens whose rows are the last of these: `rowCount - draft.length` rows are sure to be kept, the others as far as
   * the guess comes true.
   */
  readonly draft: readonly number[]
}

/** A run of rows that use the same slot. */
export interface Segment {
  readonly slot: SlotIndex
  readonly firstRow: number
  readonly rowCount: number
}

interface Changes {
  readonly finishes: readonly PlannedFinish[]
  readonly loads: readonly PlannedLoad[]
  readonly admissions: readonly Admission[]
}

export interface RunPlan extends Changes {
  readonly kind: 'run'
  /** Sorted by slot, base rows first. */
  readonly rows: readonly StepRow[]
  /** Ascending by row. */
  readonly wanted: readonly WantedRow[]
  /** Sequences among `work` whose hidden states are summed up. */
  readonly pooled: readonly SequenceId[]
  /** In the order of their rows. */
  readonly work: readonly SequenceRows[]
  readonly segments: readonly Segment[]
  /** What its rows cost whom. */
  readonly charges: readonly Charge[]
}

export interface IdlePlan extends Changes {
  readonly kind: 'idle'
  /** When something must be looked at again even if nothing happens; Infinity for never. */
  readonly wakeAtMs: number
}

export type StepPlan = RunPlan | IdlePlan
