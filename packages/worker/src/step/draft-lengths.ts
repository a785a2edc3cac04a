import { type RowCounts, type StepPace, stepMs } from './step-times.ts'

/** A draft that could be computed with a step. */
export interface DraftOffer {
  /** Tokens that it has. */
  readonly tokens: number
  /** How likely each is right where those before it are. */
  readonly chance: number
}

export interface DraftRules {
  /** Rows that all drafts of one step take together. */
  readonly rows: number
  /** `measured`: as many tokens as shorten the time per token. `all`: every draft whole, as far as the rows go. */
  readonly length: 'measured' | 'all'
  /** false: a sequence with several rows costs the engine a run of its own, so only one that decodes alone is worth it. */
  readonly isTogether: boolean
}

/** Less than this is within what is not known of the times. */
const GAIN_AT_LEAST = 1.05

/**
 * How many tokens of each draft a step computes, in the order of the offers.
 *
 * A draft of k tokens with chance c is expected to give c + c² + … + cᵏ tokens more. Rows are added one at a time where the next is
 * likeliest to be kept, and the number of rows is the one with the most expected tokens for each millisecond. That is the best
 * choice for the estimates it is given, because what a further row of one draft gives never grows.
 * @param rows of the step without drafts
 */
export function draftLengths(
  offers: readonly DraftOffer[],
  rows: RowCounts,
  rules: DraftRules,
  pace: StepPace | undefined,
): readonly number[] {
  const lengths = offers.map(() => 0)
  const isAlone = rules.isTogether || rows.answers === 1
  if (rules.length === 'measured' && (pace === undefined || !isAlone)) return lengths
  let best = [...lengths]
  const plainRate = pace === undefined ? 0 : rows.answers / stepMs(pace, rows)
  let bestRate = plainRate * GAIN_AT_LEAST
  let expected = rows.answers
  for (let added = 1; added <= rules.rows; added++) {
    const next = likeliest(offers, lengths)
    if (next === undefined) break
    lengths[next.index] = next.length
    expected += next.chance
    const rate = pace === undefined ? 0 : expected / stepMs(pace, { ...rows, answers: rows.answers + added })
    if (rules.length === 'measured' && rate <= bestRate) continue
    best = [...lengths]
    bestRate = rate
  }
  return best
}

/** The row that is likeliest to be kept, of those that come next in their drafts; the first of equals. */
function likeliest(offers: readonly DraftOffer[], lengths: readonly number[]) {
  let best: { readonly index: number; readonly length: number; readonly chance: number } | undefined
  for (const [index, { tokens, chance }] of offers.entries()) {
    const length = (lengths[index] ?? 0) + 1
    const kept = chance ** length
    if (length <= tokens && (best === undefined || kept > best.chance)) best = { index, length, chance: kept }
  }
  return best
}
