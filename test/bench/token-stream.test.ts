import { expect, test } from 'vitest'
import { eventData, gapsOf } from '../../bench/tiers/token-stream.ts'

async function* chunks(...texts: readonly string[]) {
  for (const text of texts) yield new TextEncoder().encode(text)
}

async function all(body: AsyncIterable<Uint8Array>): Promise<string[]> {
  const found: string[] = []
  for await (const data of eventData(body)) found.push(data)
  return found
}

test('reads events however they are cut, and passes over comments', async () => {
  expect(await all(chunks('data: {"a"', ':1}\n', '\n: alive\n\ndata:', '2\n\n'))).toEqual(['{"a":1}', '2'])
})

test('joins the lines of one event, and leaves out what never ended', async () => {
  expect(await all(chunks('event: x\ndata: 1\ndata: 2\n\ndata: 3\n'))).toEqual(['1\n2'])
})

test('tells the time between tokens', () => {
  expect(gapsOf([40, 48, 57])).toEqual([8, 9])
  expect(gapsOf([40])).toEqual([])
})
