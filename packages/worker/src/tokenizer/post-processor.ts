import { ServingError } from '@quiver/protocol'
import type { PostProcessorStep } from './tokenizer-json.ts'

/** The tokens that the model's own tokenizer puts around a text. */
export interface Surroundings {
  readonly before: readonly number[]
  readonly after: readonly number[]
}

/** @throws ServingError `invalid_request` when a template does not hold the text once or names an unknown token */
export function readSurroundings(steps: readonly PostProcessorStep[]): Surroundings {
  let surroundings: Surroundings = { before: [], after: [] }
  for (const step of steps) {
    if (step.type === 'ByteLevel') continue
    const textAt = step.single.findIndex((item) => 'Sequence' in item && item.Sequence.id === 'A')
    const sequences = step.single.filter((item) => 'Sequence' in item)
    if (textAt === -1 || sequences.length !== 1) {
      throw new ServingError('invalid_request', 'this tokenizer is not supported: post_processor: the template is not one text')
    }
    const ids = step.single.map((item) => {
      if (!('SpecialToken' in item)) return []
      const special = step.special_tokens[item.SpecialToken.id]
      if (special !== undefined) return special.ids
      throw new ServingError(
        'invalid_request',
        `the tokenizer is damaged: post_processor names ${JSON.stringify(item.SpecialToken.id)} but gives no id for it`,
      )
    })
    surroundings = {
      before: [...ids.slice(0, textAt).flat(), ...surroundings.before],
      after: [...surroundings.after, ...ids.slice(textAt + 1).flat()],
    }
  }
  return surroundings
}
