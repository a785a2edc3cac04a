import { expect, test } from 'vitest'
import { readWithin } from '../../../packages/cache/src/hub/stall-guard.ts'
import { ManualClock } from '../../support/manual-clock.ts'

test('a stream that is stopped while a chunk is being written ends then, not when the next one is missed', async () => {
  const stop = new AbortController()
  const timers = new ManualClock()
  const stream = new ReadableStream<Uint8Array>({ start: (controller) => controller.enqueue(Uint8Array.of(1)) })
  const reading = async (): Promise<void> => {
    for await (const _ of readWithin(stream, 60_000, { timers, signal: stop.signal })) stop.abort()
  }
  await expect(reading()).rejects.toMatchObject({ code: 'client_closed' })
  expect(timers.pending).toBe(0)
})
