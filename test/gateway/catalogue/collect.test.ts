import { storedAdapterKeys } from '@quiver/cache/store'
import { type Catalogue, CatalogueEditor, type CollectReport, collectGarbage } from '@quiver/gateway'
import { type AdapterDigest, parseAdapterName } from '@quiver/protocol'
import { beforeEach, expect, test } from 'vitest'
import { keepBytes } from '../../../packages/gateway/src/catalogue/condemned.ts'
import { freshCatalogue, publishTo } from '../../support/catalogues.ts'
import { HookedStore } from '../../support/hooked-store.ts'
import { MemoryStore } from '../../support/memory-store.ts'

const HOUR = 3_600_000
const a = parseAdapterName('a')
const by = { actor: { tenant: 'ops' } }

let store: MemoryStore
let catalogue: Catalogue
let nowMs: number
const now = () => new Date(nowMs)
beforeEach(async () => {
  store = new MemoryStore()
  catalogue = await freshCatalogue(store)
  nowMs = Date.UTC(2026, 0, 1)
})

const collect = (through: ConstructorParameters<typeof HookedStore>[0] = store): Promise<CollectReport> =>
  collectGarbage({ store: through, catalogue, now, log: () => {}, graceMs: HOUR })
const hasBytes = (digest: AdapterDigest) => Object.values(storedAdapterKeys(digest)).every((key) => store.objects.has(key))
const editor = () => new CatalogueEditor({ catalogue, now })

/** Retires version 1 of two and lets its time of grace pass. */
async function retired(): Promise<AdapterDigest> {
  const first = await publishTo(store, catalogue, 'a', 1)
  await publishTo(store, catalogue, 'a', 2)
  await editor().retire(a, { ...by, version: 1 })
  return first.manifest.digest
}

test('what was retired stays whole for the time of grace, then its manifest goes, then its bytes, and its number is not given again', async () => {
  const digest = await retired()
  nowMs += HOUR - 1
  expect(await collect()).toEqual({ versions: 0, condemned: 0, deleted: 0 })
  nowMs += 1
  expect(await collect()).toEqual({ versions: 1, condemned: 1, deleted: 0 })
  expect(hasBytes(digest)).toBe(true)
  nowMs += HOUR
  expect(await collect()).toEqual({ versions: 0, condemned: 0, deleted: 1 })
  expect(hasBytes(digest)).toBe(false)
  expect([...store.objects.keys()].filter((key) => key.startsWith('condemned/'))).toEqual([])
  expect((await publishTo(store, catalogue, 'a', 1)).manifest.version).toBe(3)
  expect(hasBytes(digest)).toBe(true)
})

test('a name of which nothing is left does not give its numbers again', async () => {
  await publishTo(store, catalogue, 'a', 1)
  await editor().retire(a, by)
  nowMs += HOUR
  await collect()
  const later = await freshCatalogue(store)
  expect([later.names(), later.page({ withRetired: true }).entries]).toEqual([[], []])
  expect((await publishTo(store, later, 'a', 2)).manifest.version).toBe(2)
  expect(later.find('a').manifest.version).toBe(2)
})

test('what is restored in time stays', async () => {
  await retired()
  await editor().restore(a, { ...by, version: 1 })
  nowMs += 5 * HOUR
  expect(await collect()).toEqual({ versions: 0, condemned: 0, deleted: 0 })
  expect(catalogue.find('a@1').manifest.version).toBe(1)
})

test('a collector that is killed at any step is finished by the next, and a version that began to go does not come back', async () => {
  for (let at = 0; at < 14; at++) {
    store = new MemoryStore()
    catalogue = await freshCatalogue(store)
    nowMs = Date.UTC(2026, 0, 1)
    const digest = await retired()
    nowMs += HOUR
    let steps = 0
    const step = <T>(_key: string, work: () => Promise<T>) => (steps++ === at ? Promise.reject(new Error('killed')) : work())
    const dying = new HookedStore(store, { put: step, delete: step })
    catalogue = await freshCatalogue(dying)
    await collect(dying).catch(() => undefined)
    nowMs += HOUR
    await collect(dying).catch(() => undefined)
    catalogue = await freshCatalogue(store)
    for (let turn = 0; turn < 3; turn++) {
      nowMs += HOUR
      await collect()
    }
    expect([hasBytes(digest), catalogue.entry(a)?.versions.size, catalogue.entry(a)?.record.retired.size]).toEqual([false, 1, 0])
    expect(catalogue.find('a').manifest.version).toBe(2)
  }
})

test('bytes that a publisher has put and not yet entered are kept, and a publisher takes a sentence back', async () => {
  const { manifest } = await publishTo(store, catalogue, 'a', 1)
  await store.delete('catalogue/a/1.json')
  await catalogue.refresh()
  expect(await collect()).toMatchObject({ condemned: 1 })
  nowMs += HOUR
  await keepBytes(store, manifest.digest)
  expect(await collect()).toMatchObject({ condemned: 1, deleted: 0 })
  expect(hasBytes(manifest.digest)).toBe(true)
  // Nobody entered it after all.
  nowMs += HOUR
  expect(await collect()).toMatchObject({ deleted: 1 })
})

test('a manifest that appears between sentence and deletion keeps its bytes', async () => {
  const { manifest } = await publishTo(store, catalogue, 'a', 1)
  const bytes = store.objects.get('catalogue/a/1.json') ?? new Uint8Array()
  await store.delete('catalogue/a/1.json')
  await collect()
  nowMs += HOUR
  const racing = new HookedStore(store, {
    async put(key, write) {
      const written = await write()
      if (key.startsWith('condemned/')) await store.put('catalogue/a/1.json', bytes)
      return written
    },
  })
  expect(await collect(racing)).toMatchObject({ deleted: 0 })
  expect(hasBytes(manifest.digest)).toBe(true)
})

test('a publisher of weights that are just being deleted is asked to come again', async () => {
  const { manifest } = await publishTo(store, catalogue, 'a', 1)
  await store.delete('catalogue/a/1.json')
  await store.delete('catalogue/a/record.json')
  await collect()
  nowMs += HOUR
  const racing = new HookedStore(store, {
    async delete(key, remove) {
      if (key.startsWith('adapters/')) {
        await expect(publishTo(store, await freshCatalogue(store), 'b', 1)).rejects.toMatchObject({ code: 'conflict' })
      }
      await remove()
    },
  })
  expect(await collect(racing)).toMatchObject({ deleted: 1 })
  await publishTo(store, catalogue, 'b', 1)
  expect(hasBytes(manifest.digest)).toBe(true)
})

test('while the catalogue has an object that cannot be read, no bytes are deleted', async () => {
  const digest = await retired()
  await store.put('catalogue/b/1.json', new TextEncoder().encode('damaged'))
  for (let turn = 0; turn < 4; turn++) {
    nowMs += HOUR
    await collect()
  }
  expect(hasBytes(digest)).toBe(true)
})
