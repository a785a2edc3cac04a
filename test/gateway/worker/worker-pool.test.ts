/** Which workers of a pool get requests, over real connections to scripted workers. */
import { systemClock, WorkerPool } from '@quiver/gateway'
import { limits, type RunRequest } from '@quiver/protocol'
import { Agent } from 'undici'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { TimerClock } from '../../../packages/gateway/src/clock.ts'
import { runWithRetry } from '../../../packages/gateway/src/worker/run-with-retry.ts'
import type { Placed } from '../../../packages/gateway/src/worker/worker-source.ts'
import { runRequest } from '../../support/batch-harness.ts'
import { refusal } from '../../support/refusal.ts'
import { accepted, done, helloWorld, ScriptedWorker, scriptedInfo, scriptedLoad, token } from '../../support/scripted-worker.ts'

const digest = 'd'.repeat(64)
const adapter = { kind: 'registered', name: 'x', digest } as const

let agent: Agent
let pool: WorkerPool
let clock: BeatingClock
const workers: ScriptedWorker[] = []
const log: string[] = []

/** Real time, with heartbeats that pass when a test says so. */
class BeatingClock implements TimerClock {
  readonly #real = systemClock()
  stoodStillMs = 0
  readonly #beats = new Set<() => void>()

  nowMs(): number {
    return this.#real.nowMs() + this.stoodStillMs
  }

  after(delayMs: number, action: () => void): () => void {
    if (delayMs !== limits.eventHeartbeatMs) return this.#real.after(delayMs, action)
    this.#beats.add(action)
    return () => this.#beats.delete(action)
  }

  /** One heartbeat is due everywhere and has not come. */
  beat(): void {
    const due = [...this.#beats]
    this.#beats.clear()
    for (const action of due) action()
  }
}

beforeEach(() => {
  agent = new Agent()
  clock = new BeatingClock()
  log.length = 0
  pool = new WorkerPool(
    { dispatcher: agent, clock, random: Math.random, log: (_level, message) => log.push(message) },
    { patienceMs: 0 },
  )
})
afterEach(async () => {
  pool.close()
  await Promise.all(workers.splice(0).map((worker) => worker.close()))
  await agent.destroy()
})

/** A worker with an id of its own that is a member of the pool. */
async function join(id: string, prepare: (worker: ScriptedWorker) => void = () => {}): Promise<ScriptedWorker> {
  const worker = await ScriptedWorker.start()
  worker.info = { ...scriptedInfo, workerId: id }
  worker.beats = false
  prepare(worker)
  workers.push(worker)
  await pool.add(worker, 5_000)
  return worker
}

const signal = (): AbortSignal => new AbortController().signal
const states = async () => new Map((await pool.workers(signal())).map(({ id, state }) => [id, state]))
const holding = (worker: ScriptedWorker) => {
  worker.holds = [{ digest, presence: 'device' }]
}

/** Where one run goes, and what becomes of it. */
async function run(parts: Partial<RunRequest> = {}): Promise<{ placed: Placed[]; text: string }> {
  const placed: Placed[] = []
  let text = ''
  const request = (attempt: number) => runRequest({ requestId: `r.${attempt}`, ...parts })
  for await (const events of runWithRetry(pool, request, signal(), (where) =>
    placed.push({ workerId: where.workerId, kind: where.kind }),
  )) {
    for (const event of events) if (event.type === 'done') text = event.generatedText
  }
  return { placed, text }
}

/** Resolves when what a worker has sent was taken in. */
async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isSo())) await new Promise(setImmediate)
}

describe('a run', () => {
  test('goes to the worker that has its adapter, and elsewhere when that has moved', async () => {
    const [a, b] = [await join('a'), await join('b', holding)]
    expect((await run({ adapter })).placed).toEqual([{ workerId: 'b', kind: 'resident' }])
    b.tell({ adapters: [{ digest, presence: 'absent' }] })
    a.tell({ adapters: [{ digest, presence: 'device' }] })
    await until(() => pool.explain(digest, undefined)?.worker.id === a.url)
    expect((await run({ adapter })).placed).toEqual([{ workerId: 'a', kind: 'resident' }])
  })

  test('of an adapter that only workers can resolve goes by its name, and by its digest once one has said it', async () => {
    for (const id of ['a', 'b', 'c']) {
      await join(id, (worker) => {
        worker.script = (one) => {
          one.send({ type: 'accepted', promptTokens: 3, queuePosition: 0, adapterDigest: digest }, token('x', true), done('x'))
          one.end()
        }
      })
    }
    const local = { kind: 'local', path: '/adapters/x' } as const
    const first = await run({ adapter: local })
    const [home] = first.placed
    expect(home?.kind).toBe('cold')
    workers.find(({ info }) => info.workerId === home?.workerId)?.tell({ adapters: [{ digest, presence: 'device' }] })
    await until(() => pool.explain(digest, undefined)?.kind === 'resident')
    expect((await run({ adapter: local })).placed).toEqual([{ workerId: home?.workerId, kind: 'resident' }])
  })

  test('G12 whose adapter has just left its worker is answered there, which loads it again: it is not sent around', async () => {
    const [a, b] = [await join('a'), await join('b', holding)]
    b.script = (one) => {
      // Its news and the run cross on the way.
      b.tell({ adapters: [{ digest, presence: 'absent' }] })
      helloWorld(one)
    }
    expect(await run({ adapter })).toMatchObject({ placed: [{ workerId: 'b', kind: 'resident' }], text: 'Hello world' })
    expect([a.requests.length, b.requests.length]).toEqual([0, 1])
    await until(() => pool.explain(digest, undefined)?.kind === 'cold')
  })

  test('W01 that its worker is lost with before the first token is run once on another', async () => {
    const [, b] = [await join('a'), await join('b', holding)]
    b.script = (one) => {
      one.send(accepted)
      one.cut()
    }
    expect(await run({ adapter })).toMatchObject({ placed: [{ workerId: 'b' }, { workerId: 'a' }], text: 'Hello world' })
  })

  test('W02 is not run again after the first token', async () => {
    const [a, b] = [await join('a'), await join('b', holding)]
    b.script = (one) => {
      one.send(accepted, token('Hello'))
      setTimeout(one.cut, 20)
    }
    expect((await refusal(() => run({ adapter }))).code).toBe('worker_lost')
    expect(a.requests).toEqual([])
  })

  test('G09 that a worker refuses because it stops is run elsewhere, which no budget bounds', async () => {
    const [, b] = [await join('a'), await join('b', holding)]
    b.script = (one) => {
      one.send({ type: 'error', code: 'draining', message: 'the worker is stopping' })
      one.end()
    }
    for (let request = 0; request < 40; request++) expect((await run({ adapter })).text).toBe('Hello world')
  })

  test('G08 when all workers fail, runs at the workers are at most a fifth more than requests', async () => {
    for (const id of ['a', 'b', 'c']) {
      await join(id, (worker) => {
        worker.script = (one) => one.cut()
      })
    }
    const requests = 200
    for (let request = 0; request < requests; request++) await run().catch(() => undefined)
    const attempts = workers.reduce((sum, worker) => sum + worker.requests.length, 0)
    expect(attempts).toBeGreaterThan(0)
    expect(attempts).toBeLessThanOrEqual(requests * 1.2 + 1)
  })

  test('G06 without a worker is refused at once, and served again when one is back', async () => {
    const a = await join('a')
    pool.remove(a.url)
    expect((await refusal(() => run())).code).toBe('not_ready')
    await pool.add(a, 5_000)
    expect((await run()).text).toBe('Hello world')
  })
})

describe('a worker', () => {
  test('W03 whose heartbeats stay out gets nothing, what it has not begun is run elsewhere, and it is back with the next', async () => {
    const [a, b] = [await join('a'), await join('b', holding)]
    b.script = () => {}
    const held = run({ adapter })
    await until(() => b.requests.length === 1)
    for (let beat = 1; beat <= 5; beat++) {
      clock.beat()
      a.tell({ load: { ...scriptedLoad, freeSlots: beat } })
      await until(() => pool.explain(undefined, undefined)?.candidates.some(({ worker }) => worker.freeSlots === beat) ?? false)
    }
    expect(await held).toMatchObject({ placed: [{ workerId: 'b' }, { workerId: 'a' }], text: 'Hello world' })
    expect((await states()).get('b')).toBe('silent')
    expect((await run({ adapter })).placed).toMatchObject([{ workerId: 'a' }])
    b.tell({ load: scriptedLoad })
    await until(async () => (await states()).get('b') === 'ready')
  })

  test('W03 whose step takes too long gets nothing though it answers, and is back when the step ends', async () => {
    const [, b] = [await join('a'), await join('b', holding)]
    b.tell({ load: { ...scriptedLoad, stepAgeMs: limits.stepAgeMs + 1 } })
    await until(async () => (await states()).get('b') === 'stalled')
    expect((await run({ adapter })).placed).toMatchObject([{ workerId: 'a' }])
    b.tell({ load: scriptedLoad })
    await until(async () => (await states()).get('b') === 'ready')
  })

  test('K02 is not given up because this gateway itself stood still: one beat was missed then, not all that fit into the pause', async () => {
    await join('a')
    clock.stoodStillMs = 60_000
    clock.beat()
    expect((await states()).get('a')).toBe('ready')
    expect((await run()).text).toBe('Hello world')
  })

  test('whose stream has a gap, or another epoch, is asked for a snapshot', async () => {
    const a = await join('a')
    a.holds = [{ digest, presence: 'ram' }]
    const before = pool.arrivals
    a.skip()
    a.tell({ load: scriptedLoad })
    await until(() => pool.arrivals > before && pool.explain(digest, undefined)?.kind === 'ram')
    a.holds = [{ digest, presence: 'device' }]
    a.info = { ...a.info, workerId: 'a-again' }
    a.cutListeners()
    await until(async () => (await states()).has('a-again') && pool.explain(digest, undefined)?.kind === 'resident')
  })

  test('W18 that serves other weights under the same name gets nothing, until it serves the same', async () => {
    await join('a')
    const b = await join('b', (worker) => {
      worker.info = { ...worker.info, model: { ...worker.info.model, sha: 'b'.repeat(64) } }
      holding(worker)
    })
    expect((await states()).get('b')).toBe('mismatched')
    expect((await run({ adapter })).placed).toMatchObject([{ workerId: 'a' }])
    expect(log).toContain('a worker serves another model under the same name as others: it gets no requests')
    b.info = { ...scriptedInfo, workerId: 'b' }
    b.cutListeners()
    await until(async () => (await states()).get('b') === 'ready')
  })

  test('of another base model is a pool of its own', async () => {
    await join('a')
    await join('b', (worker) => {
      worker.info = { ...worker.info, model: { ...worker.info.model, id: 'other' } }
      holding(worker)
    })
    expect(pool.bases).toEqual(['smollm2-135m-instruct', 'other'])
    expect((await run({ adapter })).placed).toMatchObject([{ workerId: 'a' }])
    expect((await run({ adapter, base: 'other' })).placed).toMatchObject([{ workerId: 'b', kind: 'resident' }])
    expect((await refusal(() => run({ base: 'third' }))).code).toBe('not_ready')
  })

  test('that discovery does not list any more stays as long as it is connected, and is forgotten after that', async () => {
    const worker = await ScriptedWorker.start()
    workers.push(worker)
    pool.list('redis', [worker.url], worker.token)
    await pool.whenKnown()
    pool.list('redis', [], worker.token)
    expect((await run()).text).toBe('Hello world')
    worker.cutListeners()
    await until(async () => (await pool.workers(signal())).length === 0)
  })

  test('that is drained says so to everybody, and gets nothing more', async () => {
    const [, b] = [await join('a'), await join('b', holding)]
    b.tell({ load: { ...scriptedLoad, state: 'draining' } })
    await until(async () => (await states()).get('b') === 'draining')
    expect((await run({ adapter })).placed).toMatchObject([{ workerId: 'a' }])
    expect((await refusal(() => pool.drain('nobody', signal()))).code).toBe('not_found')
  })
})
