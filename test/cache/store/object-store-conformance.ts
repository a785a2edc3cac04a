import type { ObjectStore } from '@quiver/cache/store'
import { ServingError } from '@quiver/protocol'
import { describe, expect, it } from 'vitest'
import { refusal } from '../../support/refusal.ts'

const text = (value: string): Uint8Array => new TextEncoder().encode(value)
const read = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)

async function keys(store: ObjectStore, prefix: string, startAfter?: string): Promise<readonly string[]> {
  const found: string[] = []
  for await (const { key } of store.list(prefix, startAfter === undefined ? {} : { startAfter })) found.push(key)
  return found
}

/** By code unit, or by the names of folders first. */
type ListingOrder = 'keys' | 'folders'

function inOrder(order: ListingOrder, all: readonly string[]): readonly string[] {
  // Below every character of a key, so that a folder comes before its neighbours whose names go on.
  const place = (key: string): string => (order === 'keys' ? key : key.replaceAll('/', '\u0001'))
  return all.toSorted((x, y) => (place(x) < place(y) ? -1 : 1))
}

/** What every object store promises. `open` gives a fresh, empty store for each test. */
export function describeObjectStore(name: string, open: () => Promise<ObjectStore>, order: ListingOrder = 'keys'): void {
  describe(`${name} as an object store`, () => {
    it('gives back what was put, with its size and etag', async () => {
      const store = await open()
      const { etag } = await store.put('a/b.json', text('hello'))
      const object = await store.get('a/b.json')
      expect([read(object.bytes), object.size, object.etag]).toEqual(['hello', 5, etag])
      expect(await store.head('a/b.json')).toEqual({ key: 'a/b.json', size: 5, etag })
    })

    it('holds empty objects', async () => {
      const store = await open()
      await store.put('empty', text(''))
      expect((await store.get('empty')).bytes).toHaveLength(0)
    })

    it('answers not_found for a missing object', async () => {
      const store = await open()
      expect((await refusal(() => store.get('a'))).code).toBe('not_found')
      expect((await refusal(() => store.head('a/b/c'))).code).toBe('not_found')
    })

    it('replaces whole objects, and the etag changes with the content', async () => {
      const store = await open()
      const first = await store.put('k', text('first, and long'))
      const second = await store.put('k', text('second'))
      expect(read((await store.get('k')).bytes)).toBe('second')
      expect(second.etag).not.toBe(first.etag)
    })

    it('gives a part, cut at the end of the object', async () => {
      const store = await open()
      const { etag } = await store.put('k', text('0123456789'))
      const part = await store.get('k', { range: { start: 2, end: 5 } })
      expect([read(part.bytes), part.size, part.etag]).toEqual(['234', 10, etag])
      expect(read((await store.get('k', { range: { start: 8, end: 100 } })).bytes)).toBe('89')
    })

    it.each([
      { start: 10, end: 12 },
      { start: 5, end: 5 },
      { start: -1, end: 2 },
    ])('refuses the range %j of ten bytes', async (range) => {
      const store = await open()
      await store.put('k', text('0123456789'))
      expect((await refusal(() => store.get('k', { range }))).code).toBe('invalid_request')
    })

    it('O05 never gives a part of another version than the one asked for', async () => {
      const store = await open()
      const { etag } = await store.put('k', text('old version'))
      await store.put('k', text('new version'))
      expect((await refusal(() => store.get('k', { range: { start: 0, end: 3 }, ifMatch: etag }))).code).toBe('conflict')
    })

    it('refuses an object that is larger than the caller allows', async () => {
      const store = await open()
      await store.put('k', text('0123456789'))
      expect((await refusal(() => store.get('k', { maxBytes: 9 }))).code).toBe('too_large')
      expect((await store.get('k', { maxBytes: 10 })).size).toBe(10)
    })

    it('creates an object once, however many try', async () => {
      const store = await open()
      const results = await Promise.allSettled(
        Array.from({ length: 8 }, (_, i) => store.put('once', text(String(i)), { ifNoneMatch: '*' })),
      )
      const lost = results.filter((result) => result.status === 'rejected')
      expect(lost).toHaveLength(7)
      for (const { reason } of lost) expect(reason instanceof ServingError && reason.code).toBe('conflict')
      expect(results[Number(read((await store.get('once')).bytes))]?.status).toBe('fulfilled')
    })

    it('lets one of many replace a version', async () => {
      const store = await open()
      const { etag } = await store.put('k', text('start'))
      const results = await Promise.allSettled(
        Array.from({ length: 8 }, (_, i) => store.put('k', text(String(i)), { ifMatch: etag })),
      )
      expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
      expect(results[Number(read((await store.get('k')).bytes))]?.status).toBe('fulfilled')
    })

    it('does not replace what is not there', async () => {
      const store = await open()
      const error = await refusal(() => store.put('k', text('x'), { ifMatch: 'abc' }))
      expect(['conflict', 'not_found']).toContain(error.code)
      expect((await refusal(() => store.get('k'))).code).toBe('not_found')
    })

    it('deletes, also what is not there', async () => {
      const store = await open()
      await store.put('a/b', text('x'))
      await store.delete('a/b')
      await store.delete('a/b')
      await store.delete('never/was')
      expect((await refusal(() => store.get('a/b'))).code).toBe('not_found')
      expect(await keys(store, '')).toEqual([])
    })

    it('lists keys in its order, from any place', async () => {
      const store = await open()
      const all = inOrder(order, ['a', 'b-1', 'b/1', 'b/2', 'b/c/d', 'b0', 'c', 'p+q', 'x=@,!(y)'])
      for (const key of all.toReversed()) await store.put(key, text(key))
      expect(await keys(store, '')).toEqual(all)
      for (const [at, key] of all.entries()) expect(await keys(store, '', key), `after ${key}`).toEqual(all.slice(at + 1))
      expect(await keys(store, 'b/', 'b/2')).toEqual(['b/c/d'])
    })

    it('O14 lists by text prefix: sql brings sql-v2, sql/ does not', async () => {
      const store = await open()
      for (const key of ['sql/x', 'sql-v2/x', 'sq', 'other/sql/x']) await store.put(key, text('x'))
      expect(await keys(store, 'sql/')).toEqual(['sql/x'])
      expect(await keys(store, 'sql')).toEqual(inOrder(order, ['sql-v2/x', 'sql/x']))
      expect(await keys(store, 'none/')).toEqual([])
    })

    it('lists sizes and etags', async () => {
      const store = await open()
      const { etag } = await store.put('k', text('12345'))
      const found = []
      for await (const entry of store.list('k')) found.push(entry)
      expect(found).toEqual([{ key: 'k', size: 5, etag }])
    })

    it.each([
      '',
      '/a',
      'a/',
      'a//b',
      '../x',
      'a/../../b',
      'a/./b',
      '.hidden',
      'a\\b',
      'a\u0000b',
      'a b',
      'ä',
      '%2e%2e/x',
      'x'.repeat(2_000),
    ])('H15 refuses the key %j', async (key) => {
      const store = await open()
      expect((await refusal(() => store.get(key))).code).toBe('invalid_request')
      expect((await refusal(() => store.put(key, text('x')))).code).toBe('invalid_request')
      expect((await refusal(() => store.delete(key))).code).toBe('invalid_request')
    })
  })
}
