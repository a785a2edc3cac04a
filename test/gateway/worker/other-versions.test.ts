/**
 * G10: a worker one version older, which says less, and one a version newer, which says more, in real connections. What the older one says
 * is written down here field by field and stays as it is: a test that fails means that a field was added which must be there, and then
 * gateways and workers cannot be replaced one after another.
 */
import { systemClock, WorkerPool } from '@quiver/gateway'
import {
  adapterOrderSchema,
  adapterPresencesSchema,
  type RunEvent,
  type RunRequest,
  runRequestSchema,
  tokenizeRequestSchema,
  type WorkerInfo,
  type WorkerLoad,
  type WorkerState,
} from '@quiver/protocol'
import { Agent } from 'undici'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { runWithRetry } from '../../../packages/gateway/src/worker/run-with-retry.ts'
import { runRequest } from '../../support/batch-harness.ts'
import { refusal } from '../../support/refusal.ts'
import { accepted, done, ScriptedWorker, scriptedInfo, scriptedLoad, token } from '../../support/scripted-worker.ts'

const digest = 'd'.repeat(64)

/** All that a worker of the first release said. */
const older = {
  info: {
    workerId: 'older',
    version: '0.1.0',
    model: { id: 'm', sha: 'a'.repeat(64), family: 'llama', dtype: 'int8', vocabSize: 100 },
    engine: { kind: 'onnx', device: 'cpu', lora: 'operator' },
    layout: { baseModel: 'm', hiddenSize: 8, layerCount: 1, modules: [{ name: 'q_proj', inFeatures: 8, outFeatures: 8 }] },
    limits: { sequences: 4, totalTokens: 64, inputTokens: 63, slots: 2, maxRank: 8, waiting: 4 },
  } satisfies WorkerInfo,
  load: {
    state: 'ready',
    running: 0,
    waiting: 0,
    queuedTokens: 0,
    tokensPerSecond: 100,
    turnoverMs: 100,
    freeSlots: 2,
    hasSlotToGive: true,
    victim: { requestsPerSecond: 0, reloadMs: 0 },
    reload: {
      ram: { fixedMs: 1, msPerMib: 1 },
      disk: { fixedMs: 1, msPerMib: 1 },
      origin: { fixedMs: 1, msPerMib: 1 },
    },
  } satisfies WorkerLoad,
  state: {
    running: 0,
    waiting: 0,
    loading: 0,
    slots: [{ state: 'free' }],
    leases: { adapters: 0, slots: 0 },
    steps: 7,
    failedSteps: 0,
    prefillRows: 0,
    decodeRows: 0,
    admitted: 0,
    loads: 0,
    finished: {},
    tiers: {
      device: { bytes: 0, evicted: 0 },
      ram: { bytes: 0, heldBytes: 0, evicted: 0, budgetBytes: 0 },
      disk: { bytes: 0, hits: 0, misses: 0, damaged: 0, evicted: 0, writeFailures: 0 },
    },
    adapters: {
      found: { device: 0, ram: 0, arriving: 0, absent: 0 },
      arrived: { disk: 0, origin: 0, merge: 0 },
      failedLoads: 0,
      slotsWanted: 0,
      pinned: 0,
      pinnedBytes: 0,
      quarantined: 0,
    },
  } satisfies WorkerState,
  presence: { digest, state: 'resident', bytes: 0, leases: 0, pinned: false },
  run: [
    { type: 'accepted', promptTokens: 3, queuePosition: 0 },
    { type: 'token', id: 5, text: 'Hello', logprob: -0.5, special: false, last: true },
    {
      type: 'done',
      finishReason: 'length',
      generatedText: 'Hello',
      promptTokens: 3,
      generatedTokens: 1,
      queueMs: 0,
      inferenceMs: 1,
      firstTokenMs: 1,
    },
  ] satisfies RunEvent[],
}

let agent: Agent
let pool: WorkerPool
let worker: ScriptedWorker
const signal = () => new AbortController().signal

beforeEach(async () => {
  agent = new Agent()
  pool = new WorkerPool({ dispatcher: agent, clock: systemClock(), random: Math.random, log: () => {} }, { patienceMs: 0 })
  worker = await ScriptedWorker.start()
})
afterEach(async () => {
  pool.close()
  await worker.close()
  await agent.destroy()
})

async function run(parts: Partial<RunRequest> = {}): Promise<{ text: string; types: string[] }> {
  const types: string[] = []
  let text = ''
  const request = (attempt: number) => runRequest({ requestId: `r.${attempt}`, ...parts })
  for await (const events of runWithRetry(pool, request, signal(), () => {})) {
    for (const event of events) {
      types.push(event.type)
      if (event.type === 'done') text = event.generatedText
    }
  }
  return { text, types }
}

/** Resolves when what a worker has sent was taken in. */
async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise(setImmediate)
}

/** As a later version might have it: a field more in every object. */
const more = <T>(value: T): T => {
  if (Array.isArray(value)) return value.map(more) as T
  if (typeof value !== 'object' || value === null) return value
  return { ...Object.fromEntries(Object.entries(value).map(([name, one]) => [name, more(one)])), mood: 'fine' } as T
}

test('G10 a worker that says less is a member, gets runs and is reported', async () => {
  Object.assign(worker, { info: older.info, load: older.load, state: older.state })
  worker.script = (one) => {
    one.send(...older.run)
    one.end()
  }
  await pool.add(worker, 5_000)
  expect(await run()).toEqual({ text: 'Hello', types: ['accepted', 'token', 'done'] })
  expect(await pool.state(signal())).toMatchObject({ steps: 7 })
  expect((await pool.workers(signal())).map(({ state }) => state)).toEqual(['ready'])
  expect(adapterPresencesSchema.safeParse({ adapters: [older.presence], slotsWanted: 0 }).success).toBe(true)
})

test('G10 a worker that has more to say in every message is understood as far as this gateway goes', async () => {
  Object.assign(worker, { info: more(scriptedInfo), load: more(scriptedLoad), holds: more([{ digest, presence: 'device' }]) })
  worker.onOrder = () => more({ adapters: [{ ...older.presence, state: 'resident' as const }], slotsWanted: 1 })
  worker.script = (one) => {
    one.send(...more([accepted, token('Hello', true), done('Hello')]))
    one.end()
  }
  await pool.add(worker, 5_000)
  expect(pool.explain(digest, undefined)?.kind).toBe('resident')
  expect(await run()).toEqual({ text: 'Hello', types: ['accepted', 'token', 'done'] })
  const adapter = { kind: 'registered', name: 'x', digest } as const
  expect(await pool.order('pin', { adapter }, signal())).toMatchObject([{ slotsWanted: 1 }])
})

test('G10 messages of a kind that is not known here are passed over, and the stream goes on', async () => {
  worker.script = (one) => {
    one.sendRaw('{"type":"thought","text":"hm"}\n')
    one.send(accepted)
    one.sendRaw('{"type":"thought"}\n{"type":"mood","mood":1}\n')
    one.send(token('Hello', true), done('Hello'))
    one.end()
  }
  await pool.add(worker, 5_000)
  expect(await run()).toEqual({ text: 'Hello', types: ['accepted', 'token', 'done'] })
  worker.tellStrange({ type: 'weather' })
  worker.tell({ load: { ...scriptedLoad, freeSlots: 3 } })
  await until(() => pool.explain(undefined, undefined)?.worker.freeSlots === 3)
})

test('G10 a state, place or code that is not known here is taken for the one that promises least', async () => {
  worker.holds = [{ digest, presence: 'neighbour' as 'disk' }]
  await pool.add(worker, 5_000)
  expect(pool.explain(digest, undefined)?.kind).toBe('disk')
  worker.script = (one) => {
    one.sendRaw('{"type":"error","code":"too_cold","message":"why"}\n')
    one.end()
  }
  const error = await refusal(() => run())
  expect([error.code, error.message]).toEqual(['internal', 'why'])
  worker.tell({ load: { ...scriptedLoad, state: 'resting' as 'ready' } })
  await until(() => pool.explain(undefined, undefined) === undefined)
  expect((await refusal(() => run())).code).toBe('not_ready')
})

test('G10 a worker takes what a gateway of another version asks: with more fields, and with those of the first release alone', () => {
  const first = {
    requestId: 'r',
    tenant: 't',
    adapter: { kind: 'registered', name: 'x', digest },
    prompt: { kind: 'text', text: 'Hi' },
    sampling: { sample: false },
    stop: [],
    ignoreEos: false,
    prefillDetails: false,
    alternatives: 0,
    deadlineMs: 1_000,
  }
  expect(runRequestSchema.parse(first)).toEqual(first)
  expect(runRequestSchema.parse(more(first))).toEqual(first)
  expect(adapterOrderSchema.parse(more({ adapter: first.adapter }))).toEqual({ adapter: first.adapter })
  expect(tokenizeRequestSchema.parse(more({ text: 'Hi', addSpecial: true }))).toEqual({ text: 'Hi', addSpecial: true })
})
