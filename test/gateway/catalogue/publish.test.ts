import { describe, expect, test } from 'vitest'
import { freshCatalogue, publishTo } from '../../support/catalogues.ts'
import { MemoryStore } from '../../support/memory-store.ts'

const setUp = async () => {
  const store = new MemoryStore()
  const catalogue = await freshCatalogue(store)
  return {
    store,
    catalogue,
    publish: (...args: Parameters<typeof publishTo> extends [unknown, unknown, ...infer R] ? R : never) =>
      publishTo(store, catalogue, ...args),
  }
}

describe('a publication', () => {
  test('keeps what it was given: metadata, source, template and tenant, for every later reader', async () => {
    const { store, publish } = await setUp()
    const given = {
      metadata: { team: 'search', __proto__x: 'no' },
      source: { type: 'hub', id: 'acme/sql', revision: 'abc' },
      chatTemplate: '{{ messages }}',
      tenant: 'acme',
    }
    const { metadata } = given
    await publish('a', 1, { ...given, metadata: { team: metadata.team } })
    const { manifest } = (await freshCatalogue(store)).find('a', { tenant: 'acme' })
    expect(manifest).toMatchObject({
      source: given.source,
      chatTemplate: given.chatTemplate,
      tenant: 'acme',
      metadata: { team: 'search' },
    })
  })

  test.each([
    [{ metadata: { 'not ok!': '' } }, 'invalid_parameters'],
    [{ metadata: { a: 'x'.repeat(1025) } }, 'invalid_parameters'],
    [{ metadata: Object.fromEntries(Array.from({ length: 65 }, (_, n) => [`k${n}`, ''])) }, 'invalid_parameters'],
    [{ chatTemplate: 'x'.repeat(64 * 1024 + 1) }, 'too_large'],
    [{ aliases: ['7'] }, 'invalid_request'],
    [{ aliases: ['sha256:0'] }, 'invalid_request'],
  ])('with %j is refused before anything is written', async (options, code) => {
    const { store, publish } = await setUp()
    await expect(publish('a', 1, options)).rejects.toMatchObject({ code })
    expect(store.objects.size).toBe(0)
  })

  test('moves the aliases that it names and leaves latest alone, also while its first version is being entered', async () => {
    const { store, catalogue, publish } = await setUp()
    expect(await publish('new', 1, { aliases: ['candidate'] })).toMatchObject({ isNew: true, aliases: ['candidate'] })
    expect(() => catalogue.resolve('new')).toThrow("Adapter 'new' has no latest version")
    const first = await publish('old', 1)
    const second = await publish('old', 2, { aliases: ['candidate', 'next'] })
    const third = await publish('old', 3, { aliases: [] })
    const later = await freshCatalogue(store)
    const digests = ['old', 'old@candidate', 'old@next', 'old@3'].map((text) => later.resolve(text).digest)
    expect(digests).toEqual([first, second, second, third].map(({ manifest }) => manifest.digest))
  })

  test('of the same content again changes nothing: not after a newer version, not after a rollback', async () => {
    const { store, catalogue, publish } = await setUp()
    await publish('a', 1)
    await publish('a', 2)
    const before = new Map(store.objects)
    expect(await publish('a', 1, { metadata: { other: 'words' } })).toMatchObject({
      isNew: false,
      manifest: { version: 1 },
      aliases: [],
    })
    expect([...store.objects]).toEqual([...before])
    expect(catalogue.find('a').manifest.version).toBe(2)
  })

  test('of the same weights with another template is another version', async () => {
    const { publish } = await setUp()
    await publish('a', 1)
    expect((await publish('a', 1, { chatTemplate: 'x' })).manifest.version).toBe(2)
    expect((await publish('a', 1, { chatTemplate: 'x' })).manifest.version).toBe(2)
  })

  test('is refused when the alias is not where its publisher believes it to be, and nothing is entered', async () => {
    const { catalogue, publish } = await setUp()
    await expect(publish('a', 1, { expected: 3 })).rejects.toMatchObject({ code: 'conflict' })
    await publish('a', 1, { expected: 0 })
    await expect(publish('a', 2, { expected: 0 })).rejects.toThrow("alias 'latest' of adapter 'a' names version 1, not 0")
    await publish('a', 2, { expected: 1 })
    expect([...(catalogue.entry('a')?.versions.keys() ?? [])]).toEqual([1, 2])
    // What it asked for is so already.
    expect(await publish('a', 2, { expected: 1 })).toMatchObject({ isNew: false, aliases: ['latest'] })
  })

  test('under a name of another tenant is refused, public or private', async () => {
    const { publish } = await setUp()
    await publish('private', 1, { tenant: 'acme' })
    await publish('public', 1)
    for (const [name, tenant] of [
      ['private', 'globex'],
      ['private', undefined],
      ['public', 'acme'],
    ] as const) {
      await expect(publish(name, 2, { tenant })).rejects.toMatchObject({ code: 'conflict' })
    }
    expect((await publish('private', 2, { tenant: 'acme' })).manifest.version).toBe(2)
  })

  test('is in the audit log with who made it', async () => {
    const { catalogue, publish } = await setUp()
    const { manifest } = await publish('a', 1, { actor: { tenant: 'acme', keyId: 'k1' } })
    expect((await catalogue.audit.page()).events).toEqual([
      expect.objectContaining({
        action: 'publish',
        subject: 'a',
        actor: { tenant: 'acme', keyId: 'k1' },
        after: { aliases: { latest: 1 }, version: 1, digest: manifest.digest },
      }),
    ])
  })
})
