import { ServingError } from '@quiver/protocol'
import { z } from 'zod'

export interface GenerateRequest {
  readonly url: string
  readonly inputs: string
  readonly newTokens: number
  /** Name of a folder under the server's local roots; the base model where undefined. */
  readonly adapter?: string | undefined
  readonly signal: AbortSignal
}

/** Asks for exactly `newTokens` tokens, greedily. @throws ServingError `internal` with the server's answer when that is not 200 */
export async function generate(request: GenerateRequest, parameters: object = {}): Promise<Response> {
  const { url, inputs, newTokens, adapter, signal } = request
  const response = await fetch(`${url}/generate`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      inputs,
      parameters: {
        max_new_tokens: newTokens,
        ignore_eos_token: true,
        ...(adapter === undefined ? {} : { adapter_id: adapter, adapter_source: 'local' }),
        ...parameters,
      },
    }),
    signal,
  })
  if (response.status !== 200)
    throw new ServingError('internal', `the server answered ${response.status}: ${await response.text()}`)
  return response
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
