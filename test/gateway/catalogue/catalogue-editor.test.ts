import { Catalogue, CatalogueEditor } from '@quiver/gateway'
import { parseAdapterName } from '@quiver/protocol'
import { beforeEach, describe, expect, test } from 'vitest'
import { freshCatalogue, publishedAt, publishTo } from '../../support/catalogues.ts'
import { HookedStore } from '../../support/hooked-store.ts'
import { MemoryStore } from '../../support/memory-store.ts'

const a = parseAdapterName('acme/a')
const by = { actor: { tenant: 'ops', keyId: 'k1' } }
const now = () => publishedAt

let store: MemoryStore
let catalogue: Catalogue
let editor: CatalogueEditor
/** Versions 1, 2 and 3; latest is 3. */
beforeEach(async () => {
  store = new MemoryStore()
  catalogue = await freshCatalogue(store)
  editor = new CatalogueEditor({ catalogue, now })
  for (const content of [1, 2, 3]) await publishTo(store, catalogue, a, content)
})

/** What a reference means here and for a gateway that starts now. */
async function means(text: string, user?: string): Promise<number> {
  const here = catalogue.find(text, {}, user).manifest.version
  expect((await freshCatalogue(store)).find(text, {}, user).manifest.version).toBe(here)
  return here
}

describe('an alias', () => {
  test('is made and moved, and what was expected of it is compared with what the store says', async () => {
    await editor.moveAlias(a, 'stable', 1, { ...by, expected: 0 })
    expect(await means('acme/a@stable')).toBe(1)
    const stale = await freshCatalogue(store)
    await editor.moveAlias(a, 'stable', 2, { ...by, expected: 1 })
    const other = new CatalogueEditor({ catalogue: stale, now })
    await expect(other.moveAlias(a, 'stable', 3, { ...by, expected: 1 })).rejects.toMatchObject({
      code: 'conflict',
      message: "alias 'stable' of adapter 'acme/a' names version 2, not 1: look again, then decide",
    })
    await other.moveAlias(a, 'stable', 3, { ...by, expected: 2 })
    expect(stale.find('acme/a@stable').manifest.version).toBe(3)
  })

  test.each([
    ['stable', 9, 'adapter_not_found'],
    ['1st', 1, 'invalid_request'],
    ['', 1, 'invalid_request'],
    ['x'.repeat(65), 1, 'invalid_request'],
  ])('%j cannot be put on version %d', async (alias, version, code) => {
    await expect(editor.moveAlias(a, alias, version, by)).rejects.toMatchObject({ code })
  })

  test('goes back step by step, and a publisher that comes again does not undo it', async () => {
    await editor.rollback(a, by)
    expect(await means('acme/a')).toBe(2)
    await editor.rollback(a, by)
    expect(await means('acme/a')).toBe(1)
    await expect(editor.rollback(a, by)).rejects.toMatchObject({ code: 'conflict' })
    await publishTo(store, catalogue, a, 3)
    expect(await means('acme/a')).toBe(1)
    await publishTo(store, catalogue, a, 4)
    expect(await means('acme/a')).toBe(4)
  })

  test('passes over retired versions when it goes back, and keeps a bounded memory', async () => {
    await editor.retire(a, { ...by, version: 2 })
    await editor.rollback(a, by)
    expect(await means('acme/a')).toBe(1)
    for (let turn = 0; turn < 50; turn++) await editor.moveAlias(a, 'flip', turn % 2 === 0 ? 1 : 3, by)
    expect(catalogue.entry(a)?.record.aliases.get('flip')?.previous).toHaveLength(16)
  })

  test('can be removed; names called like parts of every object are ordinary ones', async () => {
    for (const alias of ['constructor', 'toString', 'hasOwnProperty']) {
      expect(() => catalogue.find(`acme/a@${alias}`)).toThrow(expect.objectContaining({ code: 'adapter_not_found' }))
      await editor.moveAlias(a, alias, 1, by)
      expect(await means(`acme/a@${alias}`)).toBe(1)
      await editor.removeAlias(a, alias, by)
      await expect(editor.removeAlias(a, alias, by)).rejects.toMatchObject({ code: 'not_found' })
    }
  })
})

describe('a canary', () => {
  const users = Array.from({ length: 400 }, (_, n) => `user-${n}`)

  test('answers its share of users, the same ones on every gateway, and nobody who asks for a version', async () => {
    await editor.setCanary(a, { version: 1, sharePercent: 25 }, by)
    const other = await freshCatalogue(store)
    const here = users.map((user) => catalogue.find('acme/a', {}, user).manifest.version)
    expect(users.map((user) => other.find('acme/a', {}, user).manifest.version)).toEqual(here)
    const share = here.filter((version) => version === 1).length / users.length
    expect(share).toBeGreaterThan(0.12)
    expect(share).toBeLessThan(0.38)
    expect(new Set(here)).toEqual(new Set([1, 3]))
    expect(new Set(users.map((user) => catalogue.find('acme/a@3', {}, user).manifest.version))).toEqual(new Set([3]))
    expect(catalogue.latest('acme/a')?.version).toBe(3)
  })

  test('ends when it is taken away and when its alias moves', async () => {
    await editor.setCanary(a, { version: 1, sharePercent: 99 }, by)
    await editor.setCanary(a, undefined, by)
    expect(catalogue.entry(a)?.record.aliases.get('latest')).not.toHaveProperty('canary')
    await editor.setCanary(a, { version: 1, sharePercent: 99 }, by)
    await editor.moveAlias(a, 'latest', 1, by)
    expect(catalogue.entry(a)?.record.aliases.get('latest')).toMatchObject({ version: 1, previous: [1, 2, 3] })
    expect(catalogue.entry(a)?.record.aliases.get('latest')).not.toHaveProperty('canary')
  })

  test.each([
    [{ version: 1, sharePercent: 0 }, 'invalid_parameters'],
    [{ version: 1, sharePercent: 100 }, 'invalid_parameters'],
    [{ version: 1, sharePercent: Number.NaN }, 'invalid_parameters'],
    [{ version: 3, sharePercent: 10 }, 'invalid_parameters'],
    [{ version: 7, sharePercent: 10 }, 'adapter_not_found'],
  ])('cannot be %j', async (canary, code) => {
    await expect(editor.setCanary(a, canary, by)).rejects.toMatchObject({ code })
  })
})

describe('a retired adapter', () => {
  test('is not there for anybody, however it is asked for, until it is restored', async () => {
    const { digest } = catalogue.find('acme/a@1').manifest
    await editor.retire(a, by)
    for (const known of [catalogue, await freshCatalogue(store)]) {
      for (const text of ['acme/a', 'acme/a@1', 'acme/a@latest', `acme/a@sha256:${digest}`]) {
        expect(() => known.resolve(text), text).toThrow(expect.objectContaining({ code: 'adapter_not_found' }))
      }
      expect([known.names(), known.page({}).entries, known.latest('acme/a')]).toEqual([[], [], undefined])
      expect(known.page({ withRetired: true }).entries.map(({ name }) => name)).toEqual([a])
    }
    await editor.restore(a, by)
    expect(await means('acme/a')).toBe(3)
  })

  test('that is published again is the next version, and the old ones stay away', async () => {
    await editor.retire(a, by)
    expect((await publishTo(store, catalogue, a, 3)).manifest.version).toBe(4)
    expect(await means('acme/a')).toBe(4)
    expect(() => catalogue.resolve('acme/a@3')).toThrow(expect.objectContaining({ code: 'adapter_not_found' }))
  })

  test('as a single version must not be what an alias names', async () => {
    await expect(editor.retire(a, { ...by, version: 3 })).rejects.toMatchObject({ code: 'conflict' })
    await editor.setCanary(a, { version: 2, sharePercent: 5 }, by)
    await expect(editor.retire(a, { ...by, version: 2 })).rejects.toMatchObject({ code: 'conflict' })
    await editor.retire(a, { ...by, version: 1 })
    expect(() => catalogue.resolve('acme/a@1')).toThrow(expect.objectContaining({ code: 'adapter_not_found' }))
    await expect(editor.moveAlias(a, 'stable', 1, by)).rejects.toMatchObject({ code: 'adapter_not_found' })
  })
})

describe('an editor', () => {
  test('of a tenant changes its own adapters, is forbidden the public ones and does not know of others’', async () => {
    const mine = parseAdapterName('mine')
    const theirs = parseAdapterName('theirs')
    await publishTo(store, catalogue, mine, 1, { tenant: 'acme' })
    await publishTo(store, catalogue, theirs, 1, { tenant: 'globex' })
    const asAcme = { ...by, viewer: { tenant: 'acme' } }
    await editor.setPinned(mine, true, asAcme)
    await expect(editor.setPinned(a, true, asAcme)).rejects.toMatchObject({ code: 'forbidden' })
    const unknown = await editor.setPinned(theirs, true, asAcme).catch((error) => error.message)
    const nowhere = await editor.setPinned(parseAdapterName('nowhere'), true, asAcme).catch((error) => error.message)
    expect(unknown.replace('theirs', 'nowhere')).toBe(nowhere)
    expect(catalogue.entry(theirs)?.record.isPinned).toBe(false)
  })

  test('who changes what others change at the same time loses nothing', async () => {
    const others = await Promise.all(Array.from({ length: 12 }, () => freshCatalogue(store)))
    await Promise.all(
      others.map((one, n) => new CatalogueEditor({ catalogue: one, now }).moveAlias(a, `alias-${n}`, (n % 3) + 1, by)),
    )
    await catalogue.refresh()
    expect(others.map((_, n) => catalogue.find(`acme/a@alias-${n}`).manifest.version)).toEqual(others.map((_, n) => (n % 3) + 1))
    const { events } = await catalogue.audit.page()
    expect(events.filter(({ action }) => action === 'alias.move')).toHaveLength(12)
  })

  test('leaves alone and does not log what is so already', async () => {
    const before = new Map(store.objects)
    await editor.moveAlias(a, 'latest', 3, by)
    await editor.setPinned(a, false, by)
    await editor.restore(a, by)
    expect([...store.objects]).toEqual([...before])
  })

  test('whose entry in the audit log could not be written leaves it for the next change', async () => {
    const dumb = new HookedStore(store, {
      put: (key, write) => (key.startsWith('audit/') && !store.objects.has(key) ? Promise.reject(new Error('killed')) : write()),
    })
    await expect(new CatalogueEditor({ catalogue: new Catalogue(dumb), now }).setPinned(a, true, by)).rejects.toThrow('killed')
    await editor.moveAlias(a, 'stable', 1, by)
    const { events } = await catalogue.audit.page()
    expect(events.map(({ action }) => action).toSorted()).toEqual(['adapter.pin', 'alias.move', 'publish', 'publish', 'publish'])
  })
})
