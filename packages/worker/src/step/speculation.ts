import type { Engine } from '../engine/engine.ts'
import type { DraftRules } from './draft-lengths.ts'
import { Drafter } from './drafter.ts'
import type { SequenceInit } from './sequence.ts'
import type { StepLimits } from './step-plan.ts'

/** How many tokens are guessed ahead: as many as pay by measured times, or so many at every step; 0 for none. */
export type Speculation = 'auto' | number

/** With `auto`. Longer drafts are rarely right to their end, and each row's distribution takes memory. */
const AUTO_TOKENS = 8
/** Of all drafts in a step together: every row has a distribution over the whole vocabulary. */
const ROWS_AT_MOST = 32

/** What a worker does to guess ahead; undefined when it does not. */
export interface Drafting {
  readonly rules: DraftRules
  drafterFor(init: SequenceInit): Drafter | undefined
}

export function draftingOf(
  speculation: Speculation,
  { capacity, runsTogether }: Pick<Engine, 'capacity' | 'runsTogether'>,
  eosTokenIds: ReadonlySet<number>,
): Drafting | undefined {
  // The engine takes so many rows of one sequence, and one of them is not guessed.
  const draftTokens = Math.min(speculation === 'auto' ? AUTO_TOKENS : speculation, capacity.chunkTokens - 1)
  if (draftTokens <= 0) return undefined
  return {
    rules: { rows: ROWS_AT_MOST, length: speculation === 'auto' ? 'measured' : 'all', isTogether: runsTogether },
    drafterFor: (init) => {
      if (init.kind === 'embed') return undefined
      return new Drafter({ tokensAtMost: init.promptIds.length + init.maxNewTokens, draftTokens, eosTokenIds })
    },
  }
}

export function stepLimits(
  { engine, keepsPace = false }: { readonly engine: Pick<Engine, 'capacity'>; readonly keepsPace?: boolean },
  drafting: Drafting | undefined,
): StepLimits {
  const { sequences, chunkTokens } = engine.capacity
  return { sequences, chunkTokens, keepsPace, ...(drafting && { drafts: drafting.rules }) }
}
