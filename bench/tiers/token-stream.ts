import { ServingError } from '@quiver/protocol'
import { z } from 'zod'
import { askForTokens, type TokensRequest } from '../shared/ask-for-tokens.ts'

const eventSchema = z.union([z.object({ token: z.object({ id: z.int() }) }), z.object({ error: z.string() })])

/**
 * Streams exactly `newTokens` tokens.
 * @returns when each came, in milliseconds from the sending of the request
 * @throws ServingError `internal` with what the server said when it does not answer all of them
 */
export async function tokenTimes(request: TokensRequest): Promise<readonly number[]> {
  const startedAtMs = performance.now()
  const { body } = await askForTokens(request, '/generate_stream')
  if (body === null) throw new ServingError('internal', 'the server answered without a body')
  const times: number[] = []
  for await (const data of eventData(body)) {
    const event = eventSchema.parse(JSON.parse(data))
    if ('error' in event) throw new ServingError('internal', `the stream ended with: ${event.error}`)
    times.push(performance.now() - startedAtMs)
  }
  if (times.length !== request.newTokens)
    throw new ServingError('internal', `the stream had ${times.length} tokens instead of ${request.newTokens}`)
  return times
}

/** The data of each server-sent event; comments are left out. */
export async function* eventData(body: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const chunk of body) {
    const blocks = (rest + decoder.decode(chunk, { stream: true })).split('\n\n')
    rest = blocks.pop() ?? ''
    for (const block of blocks) {
      const lines = block.split('\n').filter((line) => line.startsWith('data:'))
      if (lines.length > 0) yield lines.map((line) => line.slice('data:'.length).trimStart()).join('\n')
    }
  }
}

/** Between two tokens that follow one another. */
export function gapsOf(times: readonly number[]): number[] {
  return times.slice(1).map((time, index) => time - (times[index] ?? 0))
}
