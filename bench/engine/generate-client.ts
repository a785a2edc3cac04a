import { z } from 'zod'
import { askForTokens, type TokensRequest } from '../shared/ask-for-tokens.ts'

/** `adapter` is the name of a folder under the server's local roots. */
export type GenerateRequest = TokensRequest

/** Asks for exactly `newTokens` tokens, greedily. @throws ServingError `internal` with the server's answer when that is not 200 */
export async function generate(request: GenerateRequest, parameters: object = {}): Promise<Response> {
  return await askForTokens(request, '/generate', {
    ...(request.adapter === undefined ? {} : { adapter_source: 'local' }),
    ...parameters,
  })
}

const detailsSchema = z.object({
  details: z.object({ prompt_tokens: z.int(), tokens: z.array(z.object({ id: z.int() })) }),
})

/** What one request is made of: how many tokens go in, and which come out. */
export async function generatedTokens(request: GenerateRequest): Promise<{ promptTokens: number; ids: readonly number[] }> {
  const response = await generate(request, { details: true })
  const { details } = detailsSchema.parse(await response.json())
  return { promptTokens: details.prompt_tokens, ids: details.tokens.map(({ id }) => id) }
}
