import { type GrammarBounds, Grammars } from '../../../packages/worker/src/grammar/grammars.ts'
import { Candidates } from '../../../packages/worker/src/sampling/candidates.ts'
import { type Constraint, constrainedSampler } from '../../../packages/worker/src/sampling/constrained.ts'
import { createSampler } from '../../../packages/worker/src/sampling/sampler.ts'
import { nodeTimers } from '../../../packages/worker/src/timers.ts'
import { loadTokenizer } from '../tokenizer/fixtures.ts'

/** The default model's own tokenizer. */
export const tokenizer = loadTokenizer('smollm2')
export const eosTokenId = tokenizer.eosTokenIds[0] ?? -1

export function grammarsUnderTest(bounds: Partial<GrammarBounds> = {}): Grammars {
  const { vocabSize } = tokenizer
  return new Grammars({ tokenizer, vocabSize, eosTokenIds: new Set(tokenizer.eosTokenIds), timers: nodeTimers, bounds })
}

const candidates = new Candidates(tokenizer.vocabSize)
const scores = new Float32Array(tokenizer.vocabSize)
/** A language model that knows nothing, but likes to come to an end. */
const likesToEnd = ['"', '"}', '}', ']', '",', '":', ',', ' "', '0', '1', '7', '{', '[', '"a', 'e', 'a', ':'].flatMap((text) => {
  const ids = tokenizer.encode(text)
  return ids.length === 1 ? ids : []
})

/**
 * Draws a text among what the constraint allows.
 * @returns undefined when it has not ended after so many tokens
 */
export function drawText(constraint: Constraint, random: () => number, mostTokens = 160): string | undefined {
  const seed = String(Math.floor(random() * 2 ** 32))
  const sampler = constrainedSampler(
    createSampler({ sample: true, seed }, [], { drawSeed: () => 0n, candidates }),
    constraint,
    scores,
  )
  const logprobs = Float32Array.from({ length: tokenizer.vocabSize }, () => -20 + random() * 9)
  for (const id of [eosTokenId, ...likesToEnd]) logprobs[id] = -2 - random()
  const row = { row: 0, topIds: [eosTokenId], topLogprobs: [logprobs[eosTokenId] ?? 0], logprobs }
  const ids: number[] = []
  while (ids.length < mostTokens) {
    const { id } = sampler.choose(row)
    sampler.accept(id)
    if (id === eosTokenId) return tokenizer.decode(ids)
    ids.push(id)
  }
  return undefined
}
