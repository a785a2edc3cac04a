/** What both kinds of servers are asked for in the same words. */
import { assertNever, type Grammar, ServingError } from '@quiver/protocol'
import type { ServerText } from './remote-server.ts'

/** Sampling parameters under the names that vLLM and SGLang share. Every one is said: a server may have its own defaults. */
export function samplingOf({ sampling }: ServerText, { allTokens }: { readonly allTokens: number }) {
  const { sample, temperature, topK, topP, repetitionPenalty, frequencyPenalty, presencePenalty, logitBias } = sampling
  return {
    temperature: sample ? (temperature ?? 1) : 0,
    top_k: sample ? (topK ?? allTokens) : allTokens,
    top_p: sample ? (topP ?? 1) : 1,
    min_p: 0,
    repetition_penalty: repetitionPenalty ?? 1,
    frequency_penalty: frequencyPenalty ?? 0,
    presence_penalty: presencePenalty ?? 0,
    ...(logitBias === undefined ? {} : { logit_bias: logitBias }),
  }
}

/** Both take a signed integer, and JSON holds 53 bits exactly: the lowest ones count. */
export function seedOf(seed: string): number {
  return Number(BigInt.asUintN(53, BigInt(seed)))
}

export type AskedGrammar =
  | { readonly kind: 'json'; readonly schema: string }
  | { readonly kind: 'regex'; readonly pattern: string }

/** `schema` is JSON text. */
export function grammarOf(grammar: Grammar): AskedGrammar {
  switch (grammar.kind) {
    case 'json_object':
      return { kind: 'json', schema: '{"type":"object"}' }
    case 'json_schema':
      return { kind: 'json', schema: typeof grammar.schema === 'string' ? grammar.schema : JSON.stringify(grammar.schema) }
    case 'regex':
      return { kind: 'regex', pattern: grammar.pattern }
    default:
      return assertNever(grammar)
  }
}

/** The base model that is meant. @throws ServingError `invalid_request` naming those that there are */
export function servedModel<T extends { readonly id: string }>(bases: readonly T[], named: string, url: string): T {
  const found = named === '' ? bases : bases.filter(({ id }) => id === named)
  const [only, ...more] = found
  if (only !== undefined && more.length === 0) return only
  const names = bases.map(({ id }) => JSON.stringify(id)).join(', ')
  const which = named === '' ? 'one of several models: name it with --remote-model' : `no model ${JSON.stringify(named)}`
  throw new ServingError('invalid_request', `the server at ${url} serves ${which}. It has ${names === '' ? 'none' : names}`)
}
