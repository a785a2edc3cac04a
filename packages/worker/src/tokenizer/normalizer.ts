import { compilePattern } from './split-pattern.ts'
import type { NormalizerStep } from './tokenizer-json.ts'

export type Normalizer = (text: string) => string

/** @throws ServingError `invalid_request` on a pattern that cannot be used */
export function createNormalizer(steps: readonly NormalizerStep[]): Normalizer {
  const functions = steps.map(toFunction)
  return (text) => functions.reduce((changed, step) => step(changed), text)
}

function toFunction(step: NormalizerStep): Normalizer {
  switch (step.type) {
    case 'Prepend':
      return (text) => (text === '' ? text : step.prepend + text)
    case 'Replace': {
      const pattern = compilePattern('normalizer', step.pattern)
      return (text) => text.replace(pattern, () => step.content)
    }
    default:
      return (text) => text.normalize(step.type)
  }
}
