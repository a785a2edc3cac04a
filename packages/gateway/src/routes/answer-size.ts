/** How much an answer in one piece may list. */
import { limits, ServingError } from '@quiver/protocol'

/** A factor of an answer's size, by the field that asks for it. */
export interface SizeFactor {
  readonly field: string
  readonly value: number
}

export interface AnswerSize {
  /** Tokens that each run may generate. */
  readonly tokens: SizeFactor
  /** Listed beside each token. */
  readonly alternatives: SizeFactor
  /** Runs that are kept until all are over. */
  readonly runs: SizeFactor
}

/**
 * A stream forgets each token when it is told; a whole answer keeps them all, with everything that is listed beside them.
 * @throws ServingError `invalid_parameters` naming the fields
 */
export function refuseLongAnswer({ tokens, alternatives, runs }: AnswerSize): void {
  if (tokens.value * (1 + alternatives.value) * runs.value <= limits.answerTokens) return
  throw new ServingError(
    'invalid_parameters',
    `\`${tokens.field}\` * (1 + \`${alternatives.field}\`) * \`${runs.field}\` must be <= ${limits.answerTokens} where the answer ` +
      `is not streamed. Given: ${tokens.value} * (1 + ${alternatives.value}) * ${runs.value}`,
    { param: tokens.field },
  )
}
