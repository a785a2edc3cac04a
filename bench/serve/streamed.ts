import { ServingError } from '@quiver/protocol'
import { eventData } from '../tiers/token-stream.ts'
import type { Answered } from './contestant.ts'

/** What one event of a stream says: how many tokens have come with it, if any. */
export type TokensOf = (data: string) => number

/**
 * Posts a request and reads its event stream.
 * @param expected how many tokens are right, and the key that is shown, if any
 * @throws ServingError `internal` when the answer is not 200 or has another number of tokens
 */
export async function postStreamed(
  url: string,
  body: object,
  { newTokens, key }: { readonly newTokens: number; readonly key?: string | undefined },
  tokensOf: TokensOf,
): Promise<Answered> {
  const startedAtMs = performance.now()
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(key === undefined ? {} : { authorization: `Bearer ${key}` }) },
    body: JSON.stringify(body),
  })
  if (response.status !== 200 || response.body === null)
    throw new ServingError('internal', `${url} answered ${response.status}: ${await response.text()}`)
  let tokens = 0
  const arrivalsMs: number[] = []
  for await (const data of eventData(response.body)) {
    const count = data === '[DONE]' ? 0 : tokensOf(data)
    if (count > 0) arrivalsMs.push(performance.now() - startedAtMs)
    tokens += count
  }
  if (tokens !== newTokens) throw new ServingError('internal', `${url} streamed ${tokens} tokens instead of ${newTokens}`)
  return { firstTokenMs: arrivalsMs[0] ?? Number.NaN, endMs: performance.now() - startedAtMs, arrivalsMs }
}
