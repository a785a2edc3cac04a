/** What both kinds of servers are asked for in the same words. */
import { assertNever, type Grammar, ServingError } from '@quiver/protocol'
import { z } from 'zod'
import { parsed, type RemoteHttp, reasonOf, textOf } from './remote-http.ts'
import { questionMs, type ServerText } from './remote-server.ts'

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

const tokensSchema = z.object({ tokens: z.array(z.int().nonnegative()) })

/** The text's tokens by the server's own tokenizer; undefined where it has no such route. */
export async function textTokens(http: RemoteHttp, model: string, text: string): Promise<readonly number[] | undefined> {
  const body = { model, prompt: text, add_special_tokens: false }
  const answer = await http.ask('/tokenize', { body, timeoutMs: questionMs })
  return tokensSchema.safeParse(answer.body).data?.tokens
}

/** What an answer to a text means whose status is not 200. @param who for the message: `vLLM` */
export async function refusalOf(http: RemoteHttp, who: string, response: Response): Promise<ServingError> {
  const answer = { status: response.status, body: parsed(await textOf(response).catch(() => '')) }
  if (answer.status === 429 || answer.status === 503) {
    return new ServingError('overloaded', `the ${who} server takes no more: ${reasonOf(answer)}`)
  }
  if (answer.status >= 500 || answer.status === 401 || answer.status === 403) return http.lost(reasonOf(answer))
  return new ServingError('invalid_parameters', `the ${who} server refuses this: ${reasonOf(answer)}`, { status: answer.status })
}
