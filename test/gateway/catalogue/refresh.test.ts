import { Catalogue } from '@quiver/gateway'
import { ServingError } from '@quiver/protocol'
import { describe, expect, test } from 'vitest'
import { MemoryHotCopy } from '../../../packages/gateway/src/catalogue/hot-copy.ts'
import { freshCatalogue, publishTo } from '../../support/catalogues.ts'
import { HookedStore } from '../../support/hooked-store.ts'
import { MemoryStore } from '../../support/memory-store.ts'

const text = (value: string) => new TextEncoder().encode(value)
const manifestOf = (name: string, version = 1) => ({
  ...{ name, version, digest: 'a'.repeat(64), base: 'tiny/base', rank: 2, modules: ['q_proj'], bytes: 10 },
  createdAt: '2026-01-01T00:00:00.000Z',
})
async function enter(store: MemoryStore, name: string, version = 1): Promise<void> {
  await store.put(`catalogue/${name.replaceAll('/', '@')}/${version}.json`, text(JSON.stringify(manifestOf(name, version))))
}

describe('a refresh', () => {
  test('reads what is new or changed, once, and nothing else', async () => {
    const store = new MemoryStore()
    for (let n = 0; n < 50; n++) await enter(store, `a${n}`)
    const catalogue = new Catalogue(store)
    expect(await catalogue.refresh()).toMatchObject({ read: 50, removed: 0 })
    expect(await catalogue.refresh()).toMatchObject({ read: 0, removed: 0 })
    await enter(store, 'a7', 2)
    await store.delete('catalogue/a8/1.json')
    expect(await catalogue.refresh()).toMatchObject({ read: 1, removed: 1 })
    expect(store.gets).toHaveLength(51)
    expect([catalogue.names().length, catalogue.find('a7').manifest.version]).toEqual([49, 2])
  })

  test('reads many at once, but not all', async () => {
    const store = new MemoryStore()
    for (let n = 0; n < 200; n++) await enter(store, `a${n}`)
    let running = 0
    let most = 0
    store.onGet = async () => {
      most = Math.max(most, ++running)
      await new Promise((resolve) => setImmediate(resolve))
      running -= 1
    }
    await new Catalogue(store).load()
    expect(most).toBe(32)
  })

  test('does not bring back what this process has replaced since the listing, nor take out what it has added', async () => {
    const inner = new MemoryStore()
    await publishTo(inner, await freshCatalogue(inner), 'a', 1)
    const held = Promise.withResolvers<void>()
    const listed = Promise.withResolvers<void>()
    let isHeld = true
    const store = new HookedStore(inner, {
      async get(_key, read) {
        const object = await read()
        listed.resolve()
        if (isHeld) await held.promise
        return object
      },
    })
    const catalogue = new Catalogue(store)
    const refreshing = catalogue.refresh()
    await listed.promise
    isHeld = false
    await publishTo(inner, catalogue, 'a', 2)
    await publishTo(inner, catalogue, 'b', 1)
    held.resolve()
    await refreshing
    expect([catalogue.find('a').manifest.version, catalogue.find('b').manifest.version]).toEqual([2, 1])
  })

  test('that is asked for while one runs begins after it, one for all who ask', async () => {
    const inner = new MemoryStore()
    let lists = 0
    const store = new HookedStore(inner, { list: async () => void lists++ })
    const catalogue = new Catalogue(store)
    const first = catalogue.refresh()
    const others = [catalogue.refresh(), catalogue.refresh()]
    await enter(inner, 'late')
    await Promise.all([first, ...others])
    expect(lists).toBe(2)
    expect(catalogue.names()).toEqual(['late'])
  })

  test('that fails keeps what is known, and the next one goes on', async () => {
    const inner = new MemoryStore()
    await enter(inner, 'a')
    let isDown = false
    const down = () => (isDown ? Promise.reject(new ServingError('source_unavailable', 'down')) : Promise.resolve())
    const catalogue = await freshCatalogue(new HookedStore(inner, { list: down }))
    await enter(inner, 'b')
    isDown = true
    await expect(catalogue.refresh()).rejects.toMatchObject({ code: 'source_unavailable' })
    expect(catalogue.names()).toEqual(['a'])
    isDown = false
    await catalogue.refresh()
    expect(catalogue.names()).toEqual(['a', 'b'])
  })

  test('takes copies for the etags that the store lists, and no others', async () => {
    const store = new MemoryStore()
    const hotCopy = new MemoryHotCopy()
    for (let n = 0; n < 5; n++) await enter(store, `a${n}`)
    await freshCatalogue(store, { hotCopy })
    await enter(store, 'a3', 2)
    store.gets.length = 0
    const second = await freshCatalogue(store, { hotCopy })
    expect([store.gets, second.names().length]).toEqual([['catalogue/a3/2.json'], 5])
    await hotCopy.write([{ key: 'catalogue/a4/1.json', etag: 'old', bytes: text('something else') }])
    await freshCatalogue(store, { hotCopy })
    expect(store.gets).toEqual(['catalogue/a3/2.json', 'catalogue/a4/1.json'])
  })
})

describe('an object that cannot be used', () => {
  test('R09 of another form or another program is listed, and the rest is served', async () => {
    const store = new MemoryStore()
    await enter(store, 'good')
    const strangers = [
      'catalogue/README.txt',
      'catalogue/good/notes.txt',
      'catalogue/a b'.replace(' ', '='),
      'catalogue/x/y/1.json',
    ]
    for (const key of [...strangers, 'catalogue/good/01.json']) await store.put(key, text('hello'))
    await store.put('catalogue/big/1.json', new Uint8Array(1024 * 1024 + 1))
    const catalogue = await freshCatalogue(store)
    expect(catalogue.names()).toEqual(['good'])
    expect(
      catalogue
        .problems()
        .map(({ key }) => key)
        .toSorted(),
    ).toEqual([...strangers, 'catalogue/big/1.json', 'catalogue/good/01.json'].toSorted())
    await store.delete('catalogue/big/1.json')
    await catalogue.refresh()
    expect(catalogue.problems()).toHaveLength(5)
  })

  test('as a record of a later form takes its name out of service instead of serving what may be retired', async () => {
    const store = new MemoryStore()
    await publishTo(store, await freshCatalogue(store), 'a', 1)
    await publishTo(store, await freshCatalogue(store), 'b', 1)
    const known = await freshCatalogue(store)
    const record = JSON.parse(new TextDecoder().decode(store.objects.get('catalogue/a/record.json')))
    await store.put('catalogue/a/record.json', text(JSON.stringify({ ...record, format: 2 })))
    const catalogue = await freshCatalogue(store)
    expect(() => catalogue.resolve('a')).toThrow(expect.objectContaining({ code: 'adapter_unavailable' }))
    expect([catalogue.latest('a'), catalogue.resolve('b').name]).toEqual([undefined, 'b'])
    await expect(publishTo(store, catalogue, 'a', 2)).rejects.toMatchObject({ code: 'adapter_unavailable' })
    // Who had read it before goes on with that.
    await known.refresh()
    expect(known.find('a').manifest.version).toBe(1)
    await store.put('catalogue/a/record.json', text(JSON.stringify(record)))
    await catalogue.refresh()
    expect([catalogue.find('a').manifest.version, catalogue.problems()]).toEqual([1, []])
  })

  test('as a manifest that was changed does not change what its version means', async () => {
    const store = new MemoryStore()
    await enter(store, 'a')
    const catalogue = await freshCatalogue(store)
    await store.put('catalogue/a/1.json', text(JSON.stringify({ ...manifestOf('a'), digest: 'b'.repeat(64) })))
    await catalogue.refresh()
    expect(catalogue.resolve('a').digest).toBe('a'.repeat(64))
    expect(catalogue.problems()).toEqual([{ key: 'catalogue/a/1.json', reason: expect.stringContaining('was changed') }])
  })
})

describe('a page', () => {
  test('has names in order, by prefix, from a cursor that no change disturbs', async () => {
    const store = new MemoryStore()
    for (const name of ['b', 'a/2', 'a/1', 'a-x', 'ab', 'a', 'a/3', 'c']) await enter(store, name)
    const catalogue = await freshCatalogue(store)
    const all = [...['a', 'a-x', 'a/1', 'a/2', 'a/3', 'ab', 'b', 'c']]
    const names = (page: ReturnType<Catalogue['page']>) => page.entries.map(({ name }) => name)
    expect(names(catalogue.page({}))).toEqual(all)
    expect(names(catalogue.page({ prefix: 'a/' }))).toEqual(['a/1', 'a/2', 'a/3'])
    const first = catalogue.page({ prefix: 'a', limit: 3 })
    expect(names(first)).toEqual(['a', 'a-x', 'a/1'])
    await store.delete('catalogue/a@1/1.json')
    await enter(store, 'a/11')
    await catalogue.refresh()
    const second = catalogue.page({ prefix: 'a', limit: 3, cursor: first.cursor })
    expect([names(second), second.cursor === undefined]).toEqual([['a/11', 'a/2', 'a/3'], false])
    const third = catalogue.page({ prefix: 'a', limit: 3, cursor: second.cursor })
    expect([names(third), third.cursor]).toEqual([['ab'], undefined])
    for (const cursor of ['', 'x', '%', 'A'.repeat(2000)]) {
      expect(() => catalogue.page({ cursor })).toThrow(expect.objectContaining({ code: 'invalid_request' }))
    }
  })
})
