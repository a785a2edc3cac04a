import type { DeviceMemory } from '@quiver/cache'
import type { Grammar, RunRequest, SamplingParameters, SlotIndex } from '@quiver/protocol'
import type { ModelSpec } from '../model/model-spec.ts'
import type { ChosenToken } from '../step/apply-step.ts'
import type { Capacity, Engine } from './engine.ts'

/**
 * One base model behind a server that runs its own batch: it chooses the tokens itself and sends them as they come. Adapters
 * are put into its slots like into those of any other engine.
 */
export interface StreamingEngine extends DeviceMemory {
  readonly model: ModelSpec
  readonly capacity: Pick<Capacity, 'sequences' | 'totalTokens' | 'slots' | 'maxRank'>
  readonly description: Engine['description']
  /** The same seed draws the same tokens again; else no seed is reported. */
  readonly keepsSeeds: boolean
  /** @throws ServingError `invalid_parameters` naming what is asked for and cannot be had of this server */
  refuse(request: RunRequest): void
  /**
   * Everything that comes of one prompt, in order. Ends with the text; the caller may leave it before.
   * @param signal ends the work on the other side
   * @throws ServingError `worker_lost` when the server fails, is gone, or breaks off; `invalid_parameters` when it refuses
   */
  generate(text: TextRequest, signal: AbortSignal): AsyncIterable<TextPart>
  close(): Promise<void>
}

export interface TextRequest {
  readonly promptIds: readonly number[]
  /** BASE_SLOT, or a slot whose adapter is leased. */
  readonly slot: SlotIndex
  readonly sampling: SamplingParameters
  /** What draws the same tokens again, in decimal; undefined: nothing is drawn. */
  readonly seed: string | undefined
  readonly grammar: Grammar | undefined
  readonly maxNewTokens: number
  /** Tokens that end the text and come as its last; none with `ignoreEos`. */
  readonly endTokenIds: readonly number[]
  readonly alternatives: number
  /** The prompt's log-probabilities come first. */
  readonly promptDetails: boolean
}

export type TextPart =
  /** Of each prompt token but the first, given those before it. */
  | { readonly type: 'prompt'; readonly logprobs: readonly number[] }
  | ({ readonly type: 'token' } & Omit<ChosenToken, 'isSkipped'>)
