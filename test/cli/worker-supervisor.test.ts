import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '@quiver/gateway'
import { type Progress, ServingError } from '@quiver/protocol'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { WorkerSupervisor } from '../../packages/cli/src/worker-supervisor.ts'
import { isAlive, whenGone } from '../support/processes.ts'

let folder: string
let supervisor: WorkerSupervisor | undefined
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'quiver-supervisor-'))
})
afterEach(async () => {
  supervisor?.kill()
  await supervisor?.stop()
  await rm(folder, { recursive: true })
})

interface Watched {
  readonly supervisor: WorkerSupervisor
  readonly events: string[]
  readonly progress: Progress[]
  /** Resolves at the n-th event of this kind. */
  seen(event: string, times: number): Promise<void>
  starts(): Promise<number>
}

function supervise(mode: string, onReady: () => Promise<void> = async () => {}, recordFolder = folder): Watched {
  const events: string[] = []
  const progress: Progress[] = []
  const waiting: { event: string; times: number; resolve: () => void }[] = []
  const count = (event: string) => events.filter((other) => other === event).length
  const happen = (event: string) => {
    events.push(event)
    for (const waiter of waiting) if (count(waiter.event) >= waiter.times) waiter.resolve()
  }
  const log = join(folder, 'starts')
  const made = new WorkerSupervisor(
    {
      command: {
        command: process.execPath,
        args: [join(import.meta.dirname, '../support/fake-worker.ts')],
        env: { ...process.env, FAKE_WORKER: mode, FAKE_WORKER_LOG: log },
      },
      recordFolder,
      firstPauseMs: 10,
      longestPauseMs: 50,
      stableMs: 60_000,
      stopMs: 300,
    },
    {
      clock: systemClock(),
      log: (level, message) => happen(`${level}: ${message}`),
      onProgress: (one) => progress.push(one),
      async onReady(url) {
        await onReady()
        happen(`ready ${url}`)
      },
      onLost: () => happen('lost'),
    },
  )
  supervisor = made
  return {
    supervisor: made,
    events,
    progress,
    seen: (event, times) =>
      new Promise((resolve) => (count(event) >= times ? resolve() : waiting.push({ event, times, resolve }))),
    starts: async () => (await readFile(log, 'utf8')).length,
  }
}

const ready = 'ready http://127.0.0.1:9'

test('is ready when the worker is, and passes its progress on', async () => {
  const { supervisor, events, progress } = supervise('ready')
  await supervisor.start()
  expect(events).toEqual([ready])
  expect(progress).toEqual([{ phase: 'load', label: 'fake', done: 1, total: 2, unit: 'steps' }])
})

test('starts a worker that was killed again and again, and says what happened', async () => {
  const { supervisor, seen, events } = supervise('ready')
  await supervisor.start()
  for (let round = 1; round <= 3; round++) {
    process.kill(supervisor.pid ?? 0, 'SIGKILL')
    await seen('lost', round)
    await seen(ready, round + 1)
  }
  expect(events).toContain('warn: the worker ended with signal SIGKILL; it is started again in 10 ms')
  expect(events).toContain('warn: the worker ended with signal SIGKILL; it is started again in 40 ms')
})

test('W04 says in which step a worker was killed, and leaves no file behind', async () => {
  const { supervisor, seen, events } = supervise('computes')
  await supervisor.start()
  process.kill(supervisor.pid ?? 0, 'SIGKILL')
  await seen('lost', 1)
  expect(events).toContain(
    'warn: the worker ended with signal SIGKILL in step 7 of 512 rows and 3 sequences; it is started again in 10 ms',
  )
  expect(await readdir(folder)).toEqual(['starts'])
})

test('W04 runs a worker all the same where its steps cannot be written down', async () => {
  await writeFile(join(folder, 'no-folder'), '')
  const { supervisor, seen, events } = supervise('computes', undefined, join(folder, 'no-folder'))
  await supervisor.start()
  process.kill(supervisor.pid ?? 0, 'SIGKILL')
  await seen('lost', 1)
  expect(events).toContain('warn: the worker ended with signal SIGKILL; it is started again in 10 ms')
})

test('believes a worker that says why it cannot start, and does not try again', async () => {
  const { supervisor, starts } = supervise('refuses')
  await expect(supervisor.start()).rejects.toMatchObject({ code: 'invalid_request', message: 'family mamba is not supported' })
  await supervisor.stop()
  expect(await starts()).toBe(1)
})

test('gives up on a worker that ends three times before it was ever ready', async () => {
  const { supervisor, starts } = supervise('crashes')
  await expect(supervisor.start()).rejects.toMatchObject({
    message: 'the worker process ended 3 times while it started, at last with exit code 7',
  })
  expect(await starts()).toBe(3)
})

test('a command that cannot be run is a worker that ends', async () => {
  const { supervisor } = supervise('ready')
  const broken = new WorkerSupervisor(
    {
      command: { command: join(folder, 'nothing'), args: [], env: {} },
      recordFolder: folder,
      firstPauseMs: 1,
      longestPauseMs: 1,
      stableMs: 1,
      stopMs: 1,
    },
    { clock: systemClock(), log: () => {}, onProgress: () => {}, onReady: async () => {}, onLost: () => {} },
  )
  await expect(broken.start()).rejects.toMatchObject({ message: expect.stringContaining('exit code 127') })
  await supervisor.start()
})

test('what fails on the way to readiness, such as examples that cannot be written, ends the start with its reason', async () => {
  const { supervisor } = supervise('ready', () => Promise.reject(new ServingError('source_unavailable', 'the disk is full')))
  await expect(supervisor.start()).rejects.toMatchObject({ message: 'the disk is full' })
})

test('a worker that dies while it is being received never counts as ready, and the next one does', async () => {
  let received = 0
  const { supervisor, events, seen } = supervise('ready', async () => {
    if (received++ > 0) return
    const pid = watched.pid ?? 0
    process.kill(pid, 'SIGKILL')
    // Until the supervisor itself has heard of its end.
    while (watched.pid !== undefined) await new Promise((resolve) => setImmediate(resolve))
  })
  const watched = supervisor
  await supervisor.start()
  expect(events.filter((event) => event === ready || event === 'lost')).toEqual([ready, 'lost', ready])
  await seen(ready, 2)
})

test('what a worker has started ends with it', async () => {
  const { supervisor, seen, progress } = supervise('parent')
  await supervisor.start()
  const child = progress[0]?.done ?? 0
  expect(await isAlive(child)).toBe(true)
  process.kill(supervisor.pid ?? 0, 'SIGKILL')
  await seen('lost', 1)
  await whenGone(child, 2000)
})

test('stops a worker that obeys, and kills one that does not', async () => {
  for (const mode of ['ready', 'stubborn']) {
    const { supervisor, events } = supervise(mode)
    await supervisor.start()
    const pid = supervisor.pid ?? 0
    await supervisor.stop()
    expect(await isAlive(pid)).toBe(false)
    expect(events).toEqual([ready, 'lost'])
  }
})

test('stops while the worker is between two starts', async () => {
  const { supervisor, seen, starts } = supervise('ready')
  await supervisor.start()
  process.kill(supervisor.pid ?? 0, 'SIGKILL')
  await seen('lost', 1)
  await supervisor.stop()
  expect(await starts()).toBe(1)
})

test('ignores messages that are none', async () => {
  const { supervisor, events } = supervise('talks')
  await supervisor.start()
  expect(events).toEqual([ready])
})

test('kill ends the worker at once', async () => {
  const { supervisor } = supervise('stubborn')
  await supervisor.start()
  const pid = supervisor.pid ?? 0
  supervisor.kill()
  await whenGone(pid, 2000)
})
