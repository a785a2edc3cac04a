import { ServingError } from '@quiver/protocol'

export interface TokensRequest {
  readonly url: string
  readonly inputs: string
  readonly newTokens: number
  /** The base model where undefined. */
  readonly adapter?: string | undefined
  readonly signal: AbortSignal
}

/**
 * Asks a route of LoRAX's for exactly `newTokens` tokens, greedily.
 * @throws ServingError `internal` with the server's answer when that is not 200
 */
export async function askForTokens(
  { url, inputs, newTokens, adapter, signal }: TokensRequest,
  route: '/generate' | '/generate_stream',
  parameters: object = {},
): Promise<Response> {
  const response = await fetch(`${url}${route}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      inputs,
      parameters: {
        max_new_tokens: newTokens,
        ignore_eos_token: true,
        ...(adapter === undefined ? {} : { adapter_id: adapter }),
        ...parameters,
      },
    }),
    signal,
  })
  if (response.status !== 200)
    throw new ServingError('internal', `the server answered ${response.status}: ${await response.text()}`)
  return response
}
