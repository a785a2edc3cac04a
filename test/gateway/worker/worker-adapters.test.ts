import { ServingError } from '@quiver/protocol'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type GatewayUnderTest, startGateway } from '../../support/gateway-under-test.ts'
import { refusal } from '../../support/refusal.ts'
import { ScriptedWorker, scriptedAdapters, scriptedInfo } from '../../support/scripted-worker.ts'

let under: GatewayUnderTest
beforeEach(async () => {
  under = await startGateway()
})
afterEach(() => under.close())

const { signal } = new AbortController()
const base = scriptedInfo.layout.baseModel
const order = { adapter: { kind: 'registered' as const, name: 'text-to-sql', digest: 'a'.repeat(64) } }

test('a worker tells which adapters it holds, or of one alone, under its own id', async () => {
  expect(await under.pool.adapters(signal)).toEqual([{ workerId: 'scripted', base, ...scriptedAdapters }])
  const [one] = await under.pool.adapters(signal, 'c'.repeat(64))
  expect(one?.adapters.map(({ state }) => state)).toEqual(['quarantined'])
  expect((await under.pool.adapters(signal, 'd'.repeat(64)))[0]?.adapters).toEqual([])
})

test.each(['prefetch', 'pin', 'unpin', 'lift'] as const)('the order to %s reaches the worker with its adapter', async (kind) => {
  expect(await under.pool.order(kind, order, signal)).toEqual([{ workerId: 'scripted', base, ...scriptedAdapters }])
  expect(under.worker.orders).toEqual([{ kind, ...order }])
})

test('what a worker refuses an order with is passed on', async () => {
  under.worker.onOrder = () => {
    throw new ServingError('conflict', 'no more adapters may be pinned')
  }
  const error = await refusal(() => under.pool.order('pin', order, signal))
  expect([error.code, error.message]).toEqual(['conflict', 'no more adapters may be pinned'])
})

test('an order ends with the reason of who gives it up', async () => {
  const gate = Promise.withResolvers<typeof scriptedAdapters>()
  const caller = new AbortController()
  under.worker.onOrder = () => {
    caller.abort(new ServingError('client_closed', 'gone'))
    return gate.promise
  }
  expect((await refusal(() => under.pool.order('prefetch', order, caller.signal))).code).toBe('client_closed')
  gate.resolve(scriptedAdapters)
})

test('without a worker there is nothing to tell and nobody to order', async () => {
  under.pool.remove(under.worker.url)
  expect(await under.pool.adapters(signal)).toEqual([])
  expect(await under.pool.order('pin', order, signal)).toEqual([])
})

test('an order for one base model reaches its workers alone, whatever else the gateway fronts', async () => {
  const other = await ScriptedWorker.start()
  const { layout, model } = scriptedInfo
  other.info = { ...scriptedInfo, workerId: 'other', model: { ...model, id: 'm2' }, layout: { ...layout, baseModel: 'm2' } }
  try {
    await under.pool.add(other, 5_000)
    expect(await under.pool.order('pin', { ...order, base: 'm2' }, signal)).toMatchObject([{ workerId: 'other', base: 'm2' }])
    expect(await under.pool.order('prefetch', { ...order, base }, signal)).toMatchObject([{ workerId: 'scripted', base }])
    expect(await under.pool.order('pin', { ...order, base: 'm3' }, signal)).toEqual([])
    expect(other.orders).toEqual([{ kind: 'pin', ...order }])
    expect(under.worker.orders).toEqual([{ kind: 'prefetch', ...order }])
    // Who names no base means all.
    expect(await under.pool.order('unpin', order, signal)).toHaveLength(2)
  } finally {
    under.pool.remove(other.url)
    await other.close()
  }
})
