/** A worker process without a worker in it: says over its channel what FAKE_WORKER tells it to, then waits or ends. */
import { spawn } from 'node:child_process'
import { appendFileSync } from 'node:fs'
import type { WorkerMessage } from '@quiver/protocol'
import { stepWriter } from '../../packages/cli/src/step-record.ts'

const { FAKE_WORKER = 'ready', FAKE_WORKER_LOG } = process.env
// One character for each start, so that a test can count them.
if (FAKE_WORKER_LOG !== undefined) appendFileSync(FAKE_WORKER_LOG, '.')

process.once('disconnect', () => process.exit(0))
const say = (message: WorkerMessage) =>
  new Promise<void>((resolve) => process.send?.(message, undefined, undefined, () => resolve()))

switch (FAKE_WORKER) {
  case 'ready':
    await say({ type: 'progress', progress: { phase: 'load', label: 'fake', done: 1, total: 2, unit: 'steps' } })
    await say({ type: 'ready', url: 'http://127.0.0.1:9' })
    process.once('SIGTERM', () => process.exit(0))
    break
  case 'parent': {
    // The number of a progress is the id of a process that would live for an hour.
    const { pid = 0 } = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 3_600_000)'], { stdio: 'ignore' })
    await say({ type: 'progress', progress: { phase: 'load', label: 'child', done: pid, total: 0, unit: 'steps' } })
    await say({ type: 'ready', url: 'http://127.0.0.1:9' })
    break
  }
  case 'computes':
    stepWriter()?.({ step: 6, rows: 9, sequences: 9, isOver: true })
    stepWriter()?.({ step: 7, rows: 512, sequences: 3, isOver: false })
    await say({ type: 'ready', url: 'http://127.0.0.1:9' })
    break
  case 'stubborn':
    process.on('SIGTERM', () => {})
    await say({ type: 'ready', url: 'http://127.0.0.1:9' })
    break
  case 'refuses':
    await say({ type: 'failed', code: 'invalid_request', message: 'family mamba is not supported' })
    process.exit(1)
    break
  case 'crashes':
    process.exit(7)
    break
  case 'talks':
    process.send?.({ type: 'nonsense' })
    await say({ type: 'ready', url: 'http://127.0.0.1:9' })
    break
}
