import { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { clientStream } from '../../packages/gateway/src/routes/client-stream.ts'
import type { Exchange } from '../../packages/gateway/src/routes/exchange.ts'
import { ManualClock } from '../support/manual-clock.ts'

function exchangeOf(abort: Exchange['abort']): Exchange {
  return {
    requestId: 'r',
    arrivedAtMs: 0,
    signal: new AbortController().signal,
    remainingMs: () => 1000,
    abort,
    placed: undefined,
    notePlaced: () => {},
    whenPlaced: Promise.resolve(),
    close: () => {},
  }
}

// What a stream holds (a place among the concurrent runs, its exchange, the worker's account) is given back in its `finally`.
test('a stream whose client has left before its headers were sent gives back what it holds', async () => {
  const reasons: string[] = []
  let isOver = false
  async function* frames(): AsyncGenerator<string> {
    try {
      yield 'data:1\n\n'
      yield 'data:2\n\n'
    } finally {
      isOver = true
    }
  }
  const clock = new ManualClock()
  const times = { deadlineMs: 1000, keepAliveMs: 1000, slowReaderMs: 1000 }
  const write = clientStream(
    frames(),
    { clock, times },
    exchangeOf(({ code }) => reasons.push(code)),
  )
  await nextTurn()
  const outgoing = new ServerResponse(new IncomingMessage(new Socket()))
  outgoing.destroy()
  write(outgoing)
  await nextTurn()
  await nextTurn()
  expect(reasons).toEqual(['client_closed'])
  expect(isOver).toBe(true)
})
