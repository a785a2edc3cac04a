/** Which workers are told of which pins, where a gateway fronts several base models. */
import { PinKeeper } from '@quiver/gateway'
import { type AdapterDigest, parseAdapterDigest, parseAdapterName } from '@quiver/protocol'
import { beforeEach, expect, test } from 'vitest'
import type { Manifest } from '../../../packages/gateway/src/catalogue/manifest.ts'
import { makeEntry, type NameEntry } from '../../../packages/gateway/src/catalogue/name-entry.ts'
import { impliedRecord } from '../../../packages/gateway/src/catalogue/name-record.ts'
import type { OrderForBase, WorkerAdapters } from '../../../packages/gateway/src/worker/worker-source.ts'
import { ManualClock } from '../../support/manual-clock.ts'

const digestOf = (letter: string) => parseAdapterDigest(letter.repeat(64))
/** Workers by id: their base model and what they have pinned. */
let workers: Map<string, { readonly base: string; readonly pinned: Set<AdapterDigest> }>
let entries: NameEntry[]
let arrivals: number
let orders: string[]

const source = {
  get arrivals() {
    return arrivals
  },
  adapters: async () => reports([...workers.keys()]),
  order: async (kind: string, { adapter, base }: OrderForBase) => {
    if (adapter.kind !== 'registered') throw new Error('adapters of the catalogue alone are pinned')
    const digest = parseAdapterDigest(adapter.digest)
    const meant = [...workers].filter(([, worker]) => base === undefined || worker.base === base)
    for (const [id, { pinned }] of meant) {
      orders.push(`${kind} ${digest[0]} at ${id}`)
      if (kind === 'pin') pinned.add(digest)
      if (kind === 'unpin') pinned.delete(digest)
    }
    return reports(meant.map(([id]) => id))
  },
}

function reports(ids: readonly string[]): WorkerAdapters[] {
  return ids.map((workerId) => {
    const { base = '', pinned = new Set<AdapterDigest>() } = workers.get(workerId) ?? {}
    const adapters = Array.from(pinned, (digest) => ({
      ...{ digest, state: 'resident' as const, tier: 'ram' as const, bytes: 1, leases: 0, pinned: true },
    }))
    return { workerId, base, adapters, slotsWanted: 0 }
  })
}

/** A name of one version that is pinned. */
function pinnedName(name: string, letter: string, base: string): NameEntry {
  const manifest: Manifest = {
    ...{ name: parseAdapterName(name), version: 1, digest: digestOf(letter), base },
    ...{ rank: 8, modules: ['q_proj'], bytes: 1, createdAt: '2026-01-01T00:00:00.000Z' },
  }
  const versions = new Map([[1, manifest]])
  return makeEntry(manifest.name, versions, { ...impliedRecord(manifest.name, versions), isPinned: true })
}

let keeper: PinKeeper
beforeEach(() => {
  workers = new Map()
  for (const [id, base] of [
    ['m-1', 'm'],
    ['m-2', 'm'],
    ['n-1', 'n'],
  ] as const) {
    workers.set(id, { base, pinned: new Set() })
  }
  arrivals = 3
  orders = []
  entries = [pinnedName('a', 'a', 'm'), pinnedName('b', 'b', 'n')]
  const catalogue = { entries: () => entries }
  keeper = new PinKeeper({ catalogue, workers: source, clock: new ManualClock(), log: () => {} })
})

test('each base model’s workers are told of its own adapters, and asked nothing of others', async () => {
  await keeper.keep()
  expect(orders.toSorted()).toEqual(['pin a at m-1', 'pin a at m-2', 'pin b at n-1'])
  await keeper.keep()
  expect(orders).toHaveLength(3)
})

test('a worker that comes is told of what it lacks, and the other base model’s workers are left alone', async () => {
  await keeper.keep()
  orders.length = 0
  workers.set('n-2', { base: 'n', pinned: new Set() })
  arrivals += 1
  await keeper.keep()
  expect(orders.toSorted()).toEqual(['pin b at n-1', 'pin b at n-2'])
})

test('what a worker had pinned for another base model is let go there, and stays where it belongs', async () => {
  for (const { pinned } of workers.values()) pinned.add(digestOf('a'))
  await keeper.keep()
  expect(orders.toSorted()).toEqual(['pin b at n-1', 'unpin a at n-1'])
})

test('the same weights under two base models are two pins', async () => {
  entries = [pinnedName('a', 'a', 'm'), pinnedName('also', 'a', 'n')]
  await keeper.keep()
  expect(orders.toSorted()).toEqual(['pin a at m-1', 'pin a at m-2', 'pin a at n-1'])
  entries = [pinnedName('a', 'a', 'm')]
  await keeper.keep()
  expect(orders.slice(3)).toEqual(['unpin a at n-1'])
})
