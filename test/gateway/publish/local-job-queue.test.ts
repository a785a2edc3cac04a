import { setImmediate as nextTurn } from 'node:timers/promises'
import { LocalJobQueue } from '@quiver/gateway'
import type { LogLevel } from '@quiver/protocol'
import { ManualClock } from '../../support/manual-clock.ts'
import { describeJobQueue } from './job-queue-conformance.ts'

describeJobQueue('the queue in the process', async (rules) => {
  const clock = new ManualClock()
  const log: { level: LogLevel; message: string }[] = []
  const queue = new LocalJobQueue({
    clock,
    rules,
    now: () => new Date(Date.UTC(2026, 0, 1) + clock.nowMs()),
    random: () => 0.5,
    log: (level, message) => log.push({ level, message }),
  })
  return {
    queue,
    log,
    async pass(ms) {
      clock.advance(ms)
      await nextTurn()
    },
    close: () => queue.close(),
  }
})
