import { describe, expect, it } from 'vitest'
import type { HotCopy } from '../../../packages/gateway/src/catalogue/hot-copy.ts'

const bytes = (text: string) => new TextEncoder().encode(text)
const texts = (read: readonly (Uint8Array | undefined)[] | undefined) =>
  read?.map((body) => (body === undefined ? undefined : new TextDecoder().decode(body)))

/** What every hot copy promises while it can be reached. `open` gives a fresh, empty one for each test. */
export function describeHotCopy(name: string, open: () => Promise<HotCopy>): void {
  describe(`${name} as a hot copy`, () => {
    it('gives what was kept, in the order of asking, and nothing for what was not', async () => {
      const copy = await open()
      await copy.write([
        { key: 'catalogue/a/1.json', etag: '"e1"', bytes: bytes('one') },
        { key: 'catalogue/b/1.json', etag: 'e2', bytes: bytes('two\nlines') },
      ])
      const asked = [
        { key: 'catalogue/b/1.json', etag: 'e2' },
        { key: 'catalogue/c/1.json', etag: 'e3' },
        { key: 'catalogue/a/1.json', etag: '"e1"' },
      ]
      expect(texts(await copy.read(asked))).toEqual(['two\nlines', undefined, 'one'])
    })

    it('gives nothing for another etag, older or newer', async () => {
      const copy = await open()
      await copy.write([{ key: 'k', etag: 'old', bytes: bytes('old') }])
      await copy.write([{ key: 'k', etag: 'new', bytes: bytes('new') }])
      expect(texts(await copy.read(['old', 'new', 'newer'].map((etag) => ({ key: 'k', etag }))))).toEqual([
        undefined,
        'new',
        undefined,
      ])
    })

    it('keeps any bytes, also none, and is asked for nothing in peace', async () => {
      const copy = await open()
      const body = Uint8Array.from({ length: 256 }, (_, n) => n)
      await copy.write([
        { key: 'k', etag: 'e', bytes: body },
        { key: 'empty', etag: 'e', bytes: bytes('') },
      ])
      const read = await copy.read(['k', 'empty'].map((key) => ({ key, etag: 'e' })))
      expect(read?.map((one) => [...(one ?? [0])])).toEqual([[...body], []])
      await copy.write([])
      expect(await copy.read([])).toEqual([])
    })
  })
}
