import { describe, expect, it } from 'vitest'
import { eventsOf } from '../../../../packages/worker/src/engine/remote/event-lines.ts'

async function* chunks(...texts: readonly (string | Uint8Array)[]): AsyncIterable<Uint8Array> {
  for (const text of texts) yield typeof text === 'string' ? Buffer.from(text) : text
}

async function all(body: AsyncIterable<Uint8Array>): Promise<unknown[]> {
  const events: unknown[] = []
  for await (const event of eventsOf(body)) events.push(event)
  return events
}

describe('eventsOf', () => {
  it('gives the data of each event, however the stream is cut', async () => {
    const text = ': a comment\n\ndata: {"a":1}\r\n\r\ndata:{"b":"ö"}\n\ndata: [DONE]\n\n'
    const bytes = Buffer.from(text)
    expect(await all(chunks(text))).toEqual([{ a: 1 }, { b: 'ö' }])
    expect(await all(chunks(...Array.from(bytes, (_, at) => bytes.subarray(at, at + 1))))).toEqual([{ a: 1 }, { b: 'ö' }])
  })

  it('stops at the end that is said', async () => {
    expect(await all(chunks('data: 1\ndata: [DONE]\ndata: 2\n'))).toEqual([1])
  })

  it.each([
    ['breaks off', 'data: 1\n\ndata: {"a"'],
    ['ends without saying so', 'data: 1\n\n'],
    ['holds what is not JSON', 'data: nonsense\n\ndata: [DONE]\n'],
  ])('fails where the stream %s', async (_, text) => {
    await expect(all(chunks(text))).rejects.toThrow()
  })
})
