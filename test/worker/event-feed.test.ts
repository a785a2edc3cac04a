/** What a worker tells those who listen to it. */
import type { WorkerEvent } from '@quiver/protocol'
import { limits, workerEventSchema } from '@quiver/protocol'
import { beforeEach, describe, expect, test } from 'vitest'
import { EventFeed } from '../../packages/worker/src/event-feed.ts'
import { workerLoad } from '../../packages/worker/src/worker-load.ts'
import { BatchHarness } from '../support/batch-harness.ts'
import { fakeDigest } from '../support/fake-adapter-cache.ts'

const a = fakeDigest('a')

let harness: BatchHarness
let feed: EventFeed
beforeEach(() => {
  harness = new BatchHarness({ onChange: () => feed.loadChanged() })
  const { loop, cache, service, clock } = harness
  const load = () => workerLoad({ loop, cache, isLeaving: service.isLeaving, resolving: service.resolving })
  feed = new EventFeed({ epoch: 'this-start', timers: clock, cache, load })
})

/** Everything that one listener hears, as it is after its way through JSON. */
function listen() {
  const heard: WorkerEvent[] = []
  const counts = { heartbeats: 0, ends: 0 }
  const leave = feed.join({
    event: (event) => heard.push(workerEventSchema.parse(JSON.parse(JSON.stringify(event)))),
    heartbeat: () => {
      counts.heartbeats += 1
    },
    end: () => {
      counts.ends += 1
    },
  })
  return { heard, counts, leave }
}

const moved = () => {
  for (const listener of harness.cache.presenceListeners) listener(a)
}

describe('a worker tells', () => {
  test('first a snapshot, and from then on where adapters are now, not where they were when they moved', async () => {
    const { heard } = listen()
    expect(heard).toMatchObject([{ type: 'snapshot', epoch: 'this-start', sequence: 0, adapters: [], load: { state: 'ready' } }])
    const run = harness.run({ on: 'a' })
    await run.end
    // Away and back within the time in which changes are gathered.
    moved()
    moved()
    harness.clock.advance(20)
    expect(heard.at(-1)).toMatchObject({ type: 'delta', adapters: [{ digest: a, presence: 'device' }] })
    const late = listen()
    expect(late.heard).toMatchObject([{ type: 'snapshot', adapters: [{ digest: a, presence: 'device' }] }])
    expect(late.heard[0]?.sequence).toBe(heard.at(-1)?.sequence)
  })

  test('every delta with the next number, the same to all, and at most one in 20 ms', async () => {
    const [one, other] = [listen(), listen()]
    for (let round = 0; round < 3; round++) {
      await harness.run({ maxNewTokens: 5 }).end
      expect(one.heard.length).toBe(1 + round)
      harness.clock.advance(20)
    }
    expect(one.heard.map(({ sequence }) => sequence)).toEqual([0, 1, 2, 3])
    expect(other.heard).toEqual(one.heard)
  })

  test('how many run and wait and how many prompt tokens are left', async () => {
    const { heard } = listen()
    harness.engine.holdSteps()
    const runs = [1, 2].map(() => harness.run({ inputs: 'abcd' }))
    await harness.engine.stepBegun(1)
    harness.clock.advance(20)
    const { load } = heard.at(-1) ?? {}
    expect((load?.running ?? 0) + (load?.waiting ?? 0)).toBe(2)
    expect(load?.queuedTokens).toBeGreaterThan(0)
    harness.engine.releaseSteps()
    await Promise.all(runs.map(({ end }) => end))
    harness.clock.advance(20)
    expect(heard.at(-1)?.load).toMatchObject({ running: 0, waiting: 0, queuedTokens: 0 })
  })

  test('that it is there with every heartbeat, and W03 with them how long a step that hangs has taken', async () => {
    const { counts, heard } = listen()
    harness.clock.advance(3 * limits.eventHeartbeatMs)
    expect(counts.heartbeats).toBe(3)
    harness.engine.holdSteps()
    const run = harness.run()
    await harness.engine.stepBegun(1)
    harness.clock.advance(5 * limits.eventHeartbeatMs)
    expect(heard.at(-1)?.load?.stepAgeMs).toBeGreaterThanOrEqual(4_000)
    harness.engine.releaseSteps()
    await run.end
  })

  test('at once that it is about to stop, and serves those who come all the same', async () => {
    const { heard, counts } = listen()
    harness.service.leave()
    feed.loadChanged()
    feed.flush()
    expect(heard.at(-1)).toMatchObject({ load: { state: 'draining' } })
    expect(harness.service.health()).toMatchObject({ status: 'leaving' })
    expect((await harness.run().end).type).toBe('done')
    const drained = harness.service.drain()
    expect(await harness.run().end).toMatchObject({ type: 'error', code: 'draining' })
    await drained
    feed.close()
    expect(counts.ends).toBe(1)
  })

  test('nobody anything once all have left', async () => {
    const { leave } = listen()
    leave()
    await harness.run({ on: 'a' }).end
    moved()
    expect(harness.clock.pending).toBe(0)
  })
})
