import { randomUUID } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FolderStore, type ObjectStore } from '@quiver/cache/store'
import { Catalogue, publishAdapter } from '@quiver/gateway'
import { parseAdapterName } from '@quiver/protocol'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { HookedStore } from '../../support/hooked-store.ts'
import { smollm2Layout } from '../../support/smollm2-layout.ts'

let folder: string
let store: ObjectStore
let catalogue: Catalogue
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'quiver-catalogue-'))
  store = await FolderStore.open(folder, randomUUID)
  catalogue = new Catalogue(store)
  await catalogue.load()
})
afterEach(() => rm(folder, { recursive: true }))

const example = async (name: string) => {
  const path = join(import.meta.dirname, '../../../examples/adapters', name)
  const weights = await readFile(join(path, 'adapter_model.safetensors'))
  return { config: await readFile(join(path, 'adapter_config.json')), weights: new Uint8Array(weights) }
}
const now = () => new Date('2026-01-02T03:04:05Z')
const publish = async (name: string, from: string, into = catalogue, through = store) => {
  const publication = { name: parseAdapterName(name), ...(await example(from)), layout: smollm2Layout, maxRank: 64 }
  return (await publishAdapter(publication, { store: through, catalogue: into, now })).manifest
}

describe('publishing', () => {
  test('makes a name mean the content, also for a catalogue that is read later', async () => {
    const manifest = await publish('acme/shout', 'shout')
    expect(manifest).toMatchObject({
      name: 'acme/shout',
      version: 1,
      base: smollm2Layout.baseModel,
      createdAt: '2026-01-02T03:04:05.000Z',
    })
    expect(manifest.bytes).toBe((await example('shout')).weights.length)
    const { digest, base } = manifest
    expect(catalogue.resolve('acme/shout')).toEqual({ name: 'acme/shout', digest, base })
    const later = new Catalogue(store)
    await later.load()
    expect(later.resolve('acme/shout').digest).toBe(manifest.digest)
    expect(later.latest(parseAdapterName('acme/shout'))).toEqual(manifest)
  })

  test('a version is found by its number and by its digest as long as the name has it', async () => {
    const first = await publish('acme/a', 'shout')
    const second = await publish('acme/a', 'sentiment')
    const later = new Catalogue(store)
    await later.load()
    for (const known of [catalogue, later]) {
      const digestOf = (text: string) => known.resolve(text).digest
      expect([digestOf('acme/a@1'), digestOf(`acme/a@sha256:${first.digest}`)]).toEqual([first.digest, first.digest])
      expect([digestOf('acme/a@2'), digestOf('acme/a@latest'), digestOf('acme/a')]).toEqual(Array(3).fill(second.digest))
      expect(() => known.resolve('acme/a@3')).toThrow("Adapter 'acme/a' has no version '3' here. Its latest is 2.")
      expect(() => known.resolve(`acme/a@sha256:${'0'.repeat(64)}`)).toThrow('has no version')
      expect(() => known.resolve('acme/a@prod')).toThrow("has no alias or version 'prod' here. Its latest is 2.")
      for (const text of ['acme/a@', 'acme/a@0', 'acme/a@-prod', 'acme/a@1@1', '@1', 'acme/a@sha256:12']) {
        expect(() => known.resolve(text), text).toThrow(expect.objectContaining({ code: 'invalid_request' }))
      }
    }
  })

  test('the same content again keeps its version, other content is the next one', async () => {
    const first = await publish('a', 'shout')
    expect(await publish('a', 'shout')).toEqual(first)
    const second = await publish('a', 'sentiment')
    expect([second.version, second.digest === first.digest]).toEqual([2, false])
    expect(catalogue.resolve('a').digest).toBe(second.digest)
    const later = new Catalogue(store)
    await later.load()
    expect(later.resolve('a').digest).toBe(second.digest)
  })

  test('writes weights, then config, then the manifest', async () => {
    const keys: string[] = []
    const watched = new HookedStore(store, {
      put(key, write) {
        keys.push(key.split('/').at(-1) ?? '')
        return write()
      },
    })
    await publish('a', 'shout', new Catalogue(watched), watched)
    expect(keys.slice(0, 4)).toEqual(['adapter_model.safetensors', 'adapter_config.json', '1.json', 'record.json'])
    // The audit log's entry.
    expect(keys).toHaveLength(5)
  })

  test('of something broken leaves nothing behind', async () => {
    const { config, weights } = await example('shout')
    const broken = { name: parseAdapterName('a'), config, weights: weights.subarray(0, 1000), layout: smollm2Layout, maxRank: 64 }
    await expect(publishAdapter(broken, { store, catalogue, now })).rejects.toMatchObject({ code: 'adapter_invalid' })
    expect(catalogue.names()).toEqual([])
    expect(await readdir(folder)).toEqual([])
  })

  test('two catalogues that publish under one name at once make two versions, and both see the later one as latest', async () => {
    const other = new Catalogue(store)
    const [first, second] = await Promise.all([publish('a', 'shout'), publish('a', 'sentiment', other)])
    expect([first.version, second.version].sort()).toEqual([1, 2])
    await Promise.all([catalogue.refresh(), other.refresh()])
    const later = first.version === 2 ? first : second
    expect([catalogue.resolve('a').digest, other.resolve('a').digest]).toEqual([later.digest, later.digest])
  })
})

describe('resolving', () => {
  test('an unknown name says which there are, and asks no store', async () => {
    await publish('a', 'shout')
    const deaf = new Catalogue(new Proxy({} as ObjectStore, { get: () => expect.unreachable('the store was asked') }))
    expect(() => deaf.resolve('a')).toThrow("Adapter 'a' is not known here. No adapter has been published on this server.")
    expect(() => catalogue.resolve('b')).toThrow("Adapter 'b' is not known here. There are: a.")
  })

  test.each(['../x', 'a/../../b', '/etc/passwd', 'a\\b', '', 'x'.repeat(300), 'a%2fb', 'a?b'])('%j is no name', (name) => {
    expect(() => catalogue.resolve(name)).toThrow('is not valid')
  })
})

describe('reading', () => {
  test.each([
    ['no JSON', 'a/1.json', 'hello'],
    ['a missing field', 'a/1.json', '{"name":"a"}'],
    ['another name', 'c/1.json', undefined],
    ['another version', 'a/2.json', undefined],
  ])('a manifest with %s is listed as a problem, logged once, and keeps nobody else from being served', async (_, key, text) => {
    const manifest = await publish('a', 'shout')
    const other = await publish('b', 'sentiment')
    await store.delete('catalogue/a/1.json')
    await store.put(`catalogue/${key}`, new TextEncoder().encode(text ?? JSON.stringify(manifest)))
    const lines: string[] = []
    const later = new Catalogue(store, { log: (_level, message) => lines.push(message) })
    await later.load()
    await later.refresh()
    expect(later.problems()).toEqual([{ key: `catalogue/${key}`, reason: expect.stringContaining(`catalogue/${key}`) }])
    expect(lines).toHaveLength(1)
    expect([later.names(), later.resolve('b').digest]).toEqual([['b'], other.digest])
    expect(() => later.resolve('a')).toThrow(expect.objectContaining({ code: 'adapter_not_found' }))
  })
})
