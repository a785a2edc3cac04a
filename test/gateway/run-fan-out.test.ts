import { setImmediate as nextTurn } from 'node:timers/promises'
import { ServingError } from '@quiver/protocol'
import { expect, onTestFinished, test } from 'vitest'
import type { Exchange } from '../../packages/gateway/src/routes/exchange.ts'
import { mergeRuns, type RunEvents } from '../../packages/gateway/src/routes/run-fan-out.ts'

/** What a run is merged by; nothing here is aborted by a client. */
const exchange: Exchange = {
  requestId: 'r',
  arrivedAtMs: 0,
  signal: new AbortController().signal,
  remainingMs: () => 1000,
  abort: () => {},
  placed: undefined,
  notePlaced: () => {},
  whenPlaced: Promise.resolve(),
  close: () => {},
}

// A client that did not read its stream filled the buffer, its worker was lost meanwhile, and the rejection that nobody
// waited for ended the gateway's process with everybody's streams.
test('a run that fails while its reader takes its time fails for that reader alone', async () => {
  const loose: unknown[] = []
  const note = (reason: unknown) => loose.push(reason)
  process.on('unhandledRejection', note)
  onTestFinished(() => {
    process.off('unhandledRejection', note)
  })
  const lost = Promise.withResolvers<never>()
  async function* run(): RunEvents {
    yield [{ type: 'accepted', promptTokens: 1, queuePosition: 0 }]
    await lost.promise
  }
  const merged = mergeRuns([run()], exchange)
  expect((await merged.next()).value).toMatchObject({ index: 0, events: [{ type: 'accepted' }] })
  lost.reject(new ServingError('worker_lost', 'the worker was lost'))
  await nextTurn()
  await nextTurn()
  expect(loose).toEqual([])
  await expect(merged.next()).rejects.toThrow('the worker was lost')
})
