/** What both queues of publishing jobs promise. */
import type { LogLevel } from '@quiver/protocol'
import { ServingError } from '@quiver/protocol'
import { afterEach, describe, expect, it } from 'vitest'
import type { DropOutcome } from '../../../packages/gateway/src/publish/drop-job.ts'
import type { JobState } from '../../../packages/gateway/src/publish/job-list.ts'
import type { JobQueue, QueueRules } from '../../../packages/gateway/src/publish/job-queue.ts'

export interface QueueUnderTest {
  readonly queue: JobQueue
  readonly log: readonly { readonly level: LogLevel; readonly message: string }[]
  /** Lets so much time pass. */
  pass(ms: number): Promise<void>
  close(): Promise<void>
}

export const testRules: QueueRules = { atOnce: 2, attempts: 3, backoffMs: 50, remembered: 5, doneMs: 1000, failedMs: 2000 }

const published: DropOutcome = { outcome: 'published', version: 1, digest: 'a'.repeat(64) as never }
const work = (n: number) => ({ id: `drop-${n}`, name: `acme/${n}` })

export function describeJobQueue(name: string, open: (rules: QueueRules) => Promise<QueueUnderTest>): void {
  describe(name, () => {
    let under: QueueUnderTest
    const begin = async () => {
      under = await open(testRules)
      return under.queue
    }
    afterEach(async () => await under.close())
    const stateOf = async (id: string): Promise<JobState | undefined> =>
      (await under.queue.recent(100)).find((job) => job.id === id)?.state
    const becomes = async (id: string, state: JobState) => {
      await expect
        .poll(
          async () => {
            await under.pass(20)
            return await stateOf(id)
          },
          { timeout: 20_000, interval: 5 },
        )
        .toBe(state)
    }

    it('runs each job once, also those that were added before it began, and tells what came of it', async () => {
      const queue = await begin()
      const runs: string[] = []
      await queue.add(work(1))
      expect(await queue.recent(10)).toMatchObject([
        { id: 'drop-1', kind: 'drop', name: 'acme/1', state: 'waiting', attempts: 0 },
      ])
      queue.start(async ({ id, name: ran }) => {
        runs.push(`${id} ${ran}`)
        return id === 'drop-1' ? published : { outcome: 'rejected', reasons: ['rank 99', 'no name'] }
      })
      await queue.add(work(2))
      await becomes('drop-1', 'published')
      await becomes('drop-2', 'rejected')
      expect(runs.sort()).toEqual(['drop-1 acme/1', 'drop-2 acme/2'])
      const jobs = await queue.recent(10)
      expect(jobs.find(({ id }) => id === 'drop-1')).toMatchObject({
        version: 1,
        digest: 'a'.repeat(64),
        reasons: [],
        attempts: 1,
      })
      expect(jobs.find(({ id }) => id === 'drop-2')).toMatchObject({ reasons: ['rank 99', 'no name'], attempts: 1 })
      for (const { createdAt, startedAt = '', finishedAt = '' } of jobs) {
        expect([createdAt <= startedAt, startedAt <= finishedAt]).toEqual([true, true])
      }
    })

    it('takes the same work once while it waits, runs or has just ended, and again later', async () => {
      const queue = await begin()
      const gate = Promise.withResolvers<void>()
      let runs = 0
      queue.start(async () => {
        runs++
        await gate.promise
        return published
      })
      await queue.add(work(1))
      await becomes('drop-1', 'running')
      await queue.add(work(1))
      gate.resolve()
      await becomes('drop-1', 'published')
      await queue.add(work(1))
      await under.pass(50)
      expect([runs, await stateOf('drop-1')]).toEqual([1, 'published'])
      await under.pass(testRules.doneMs)
      await queue.add(work(1))
      await expect.poll(async () => await under.pass(5).then(() => runs)).toBe(2)
    })

    it('runs only so many at once', async () => {
      const queue = await begin()
      const gate = Promise.withResolvers<void>()
      let [now, most] = [0, 0]
      queue.start(async () => {
        most = Math.max(most, ++now)
        await gate.promise
        now--
        return published
      })
      for (let n = 0; n < 5; n++) await queue.add(work(n))
      await expect.poll(async () => await under.pass(5).then(() => now)).toBe(2)
      gate.resolve()
      for (let n = 0; n < 5; n++) await becomes(`drop-${n}`, 'published')
      expect(most).toBe(2)
    })

    it('tries again what fails, with growing pauses, gives it up after a bounded number, and takes it again later', async () => {
      const queue = await begin()
      let [runs, isBack] = [0, false]
      queue.start(async () => {
        runs++
        if (!isBack) throw new ServingError('source_unavailable', 'the store is away')
        return published
      })
      await queue.add(work(1))
      await becomes('drop-1', 'failed')
      expect(runs).toBe(3)
      expect(await queue.recent(1)).toMatchObject([{ attempts: 3, reasons: ['the store is away'] }])
      expect(under.log).toMatchObject([
        { level: 'warn', message: expect.stringMatching(/acme\/1.*tried again later: .*store is away/) },
      ])
      isBack = true
      await queue.add(work(1))
      await under.pass(50)
      expect([runs, await stateOf('drop-1')]).toEqual([3, 'failed'])
      await under.pass(testRules.failedMs)
      await queue.add(work(1))
      await becomes('drop-1', 'published')
    })

    it('remembers a bounded number of ended jobs, newest first', async () => {
      const queue = await begin()
      queue.start(async () => published)
      for (let n = 0; n < 12; n++) {
        await queue.add(work(n))
        await becomes(`drop-${n}`, 'published')
      }
      const jobs = await queue.recent(100)
      expect(jobs.length).toBeLessThanOrEqual(testRules.remembered)
      expect((await queue.recent(2)).map(({ id }) => id)).toEqual(['drop-11', 'drop-10'])
    })

    it('waits for what runs when it is closed, tells it so, and begins nothing more', async () => {
      const queue = await begin()
      let [begun, ended] = [0, 0]
      queue.start(async (_work, signal) => {
        begun++
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => setImmediate(resolve)))
        ended++
        return published
      })
      for (let n = 0; n < 4; n++) await queue.add(work(n))
      await expect.poll(async () => await under.pass(5).then(() => begun)).toBe(2)
      await queue.close()
      expect([begun, ended]).toEqual([2, 2])
    })
  })
}
