import { ServingError } from '@quiver/protocol'
import { z } from 'zod'

export interface StreamRequest {
  readonly url: string
  readonly inputs: string
  readonly newTokens: number
  /** A registered adapter; the base model where undefined. */
  readonly adapter?: string | undefined
  readonly signal: AbortSignal
}

const eventSchema = z.union([z.object({ token: z.object({ id: z.int() }) }), z.object({ error: z.string() })])

/**
 * Streams exactly `newTokens` tokens.
 * @returns when each came, in milliseconds from the sending of the request
 * @throws ServingError `internal` with what the server said when it does not answer all of them
 */
export async function tokenTimes({ url, inputs, newTokens, adapter, signal }: StreamRequest): Promise<readonly number[]> {
  const startedAtMs = performance.now()
  const response = await fetch(`${url}/generate_stream`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      inputs,
      parameters: {
        max_new_tokens: newTokens,
        ignore_eos_token: true,
        ...(adapter === undefined ? {} : { adapter_id: adapter }),
      },
    }),
    signal,
  })
  if (response.status !== 200 || response.body === null)
    throw new ServingError('internal', `the server answered ${response.status}: ${await response.text()}`)
  const times: number[] = []
  for await (const data of eventData(response.body)) {
    const event = eventSchema.parse(JSON.parse(data))
    if ('error' in event) throw new ServingError('internal', `the stream ended with: ${event.error}`)
    times.push(performance.now() - startedAtMs)
  }
  if (times.length !== newTokens)
    throw new ServingError('internal', `the stream had ${times.length} tokens instead of ${newTokens}`)
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
