import { Catalogue } from '@quiver/gateway'
import { type LogLevel, parseAdapterName, ServingError } from '@quiver/protocol'
import { beforeEach, describe, expect, test } from 'vitest'
import { dropId, readDrop } from '../../../packages/gateway/src/publish/drop-folder.ts'
import { type DropJobDeps, type DropOutcome, runDropJob } from '../../../packages/gateway/src/publish/drop-job.ts'
import { buildAdapter, tinyLayout } from '../../support/adapter-files.ts'
import { freshCatalogue, publishedAt, publishTo } from '../../support/catalogues.ts'
import { brokenDrops, keysBelow, putDrop, readJsonObject, soundDrop } from '../../support/drops.ts'
import { HookedStore } from '../../support/hooked-store.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { MemoryStore } from '../../support/memory-store.ts'

const text = (value: string | object) => new TextEncoder().encode(typeof value === 'string' ? value : JSON.stringify(value))

let store: MemoryStore
let catalogue: Catalogue
let log: { readonly level: LogLevel; readonly message: string }[]
beforeEach(() => {
  store = new MemoryStore()
  catalogue = new Catalogue(store)
  log = []
})

async function run(name: string, more: Partial<DropJobDeps> = {}): Promise<DropOutcome> {
  const deps: DropJobDeps = {
    ...{ store, catalogue, address: 's3://bucket/quiver', now: () => publishedAt, clock: new ManualClock() },
    bases: (base) => (base === undefined || base === tinyLayout.baseModel ? { layout: tinyLayout, maxRank: 8 } : undefined),
    log: (level, message) => log.push({ level, message }),
    ...more,
  }
  const drop = await readDrop(store, name)
  return await runDropJob({ id: dropId(drop), name }, deps, new AbortController().signal)
}

describe('a sound drop', () => {
  test('is published with all that quiver.json wishes, and says so in its place', async () => {
    const options = { alias: ['stable', 'latest'], pin: true, metadata: { team: 'data' }, tenant: 'acme', base: 'tiny/base' }
    await putDrop(store, 'acme/sql', { ...soundDrop(1), 'quiver.json': text(options), _READY: text('') })
    const outcome = await run('acme/sql')
    const entry = catalogue.entry('acme/sql')
    const [manifest] = [...(entry?.versions.values() ?? [])]
    expect(outcome).toEqual({ outcome: 'published', version: 1, digest: manifest?.digest })
    expect(manifest).toMatchObject({
      ...{ tenant: 'acme', metadata: { team: 'data' } },
      source: { type: 'drop', uri: 's3://bucket/quiver/drop/acme/sql/' },
    })
    expect([entry?.record.isPinned, [...(entry?.record.aliases.keys() ?? [])].sort()]).toEqual([true, ['latest', 'stable']])
    expect(await readJsonObject(store, 'drop/acme/sql/_PUBLISHED.json')).toMatchObject({
      ...{ name: 'acme/sql', version: 1, digest: manifest?.digest, rank: 2, modules: ['q_proj', 'v_proj'] },
      ...{ aliases: ['stable', 'latest'], at: publishedAt.toISOString() },
    })
    expect(await keysBelow(store, 'drop/')).toEqual(['drop/acme/sql/_PUBLISHED.json'])
    expect((await keysBelow(store, 'dropped/')).map((key) => key.replace(/drop-[0-9a-f]{32}/, 'job'))).toEqual([
      'dropped/acme@sql/job/_PUBLISHED.json',
      'dropped/acme@sql/job/adapter_config.json',
      'dropped/acme@sql/job/quiver.json',
    ])
  })

  test('brings its chat template: of chat_template.jinja, or else of tokenizer_config.json', async () => {
    const tokenizer = text({ chat_template: 'of the tokenizer' })
    await putDrop(store, 'a', { ...soundDrop(1), 'chat_template.jinja': text('own'), 'tokenizer_config.json': tokenizer })
    await putDrop(store, 'b', { ...soundDrop(2), 'tokenizer_config.json': tokenizer })
    for (const name of ['a', 'b']) await run(name)
    expect(['a', 'b'].map((name) => catalogue.latest(name)?.chatTemplate)).toEqual(['own', 'of the tokenizer'])
  })

  test('dropped again is the same version, another one the next, and the note is about the last', async () => {
    for (const [n, version] of [
      [1, 1],
      [1, 1],
      [2, 2],
    ] as const) {
      await putDrop(store, 'a', soundDrop(n))
      expect(await run('a')).toMatchObject({ outcome: 'published', version })
      expect(await readJsonObject(store, 'drop/a/_PUBLISHED.json')).toMatchObject({ version })
    }
    expect(catalogue.entry('a')?.versions.size).toBe(2)
  })

  test('is published also when workers cannot load it ahead, which is written down', async () => {
    const orders: unknown[] = []
    const workers = {
      order: async (...[kind, { adapter }]: Parameters<NonNullable<DropJobDeps['workers']>['order']>) => {
        orders.push([kind, adapter])
        if (orders.length > 1) throw new ServingError('overloaded', 'too many orders')
        return []
      },
    }
    for (const name of ['a', 'b', 'c']) {
      await putDrop(store, name, { ...soundDrop(1), 'quiver.json': text({ prewarm: name !== 'c' }) })
      expect(await run(name, { workers })).toMatchObject({ outcome: 'published' })
    }
    expect(orders).toMatchObject([
      ['prefetch', { kind: 'registered', name: 'a' }],
      ['prefetch', { kind: 'registered', name: 'b' }],
    ])
    expect(await readJsonObject(store, 'drop/a/_PUBLISHED.json')).not.toHaveProperty('prewarm')
    expect(await readJsonObject(store, 'drop/b/_PUBLISHED.json')).toMatchObject({ prewarm: 'too many orders' })
  })

  test('that waits for a base model that no worker serves yet is tried again, not rejected', async () => {
    await putDrop(store, 'a', { ...soundDrop(1), 'quiver.json': text({ base: 'other/model' }) })
    await expect(run('a')).rejects.toMatchObject({ code: 'not_ready', message: expect.stringContaining('other/model') })
    expect(await keysBelow(store, 'drop/')).toHaveLength(3)
  })
})

describe('a broken drop', () => {
  test.each(brokenDrops)('with $what is rejected with that reason, and stays', async ({ files, reason }) => {
    await putDrop(store, 'a', { ...files, _READY: text('') })
    const outcome = await run('a')
    expect(outcome).toEqual({ outcome: 'rejected', reasons: [expect.stringMatching(reason)] })
    expect(await readJsonObject(store, 'drop/a/_REJECTED.json')).toMatchObject({ reasons: [expect.stringMatching(reason)] })
    const left = [...Object.keys(files), '_REJECTED.json'].map((file) => `drop/a/${file}`)
    expect(await keysBelow(store, '')).toEqual(left.sort())
    // Once more, without its files being read.
    const reads = store.gets.length
    expect(await run('a')).toEqual(outcome)
    expect(store.gets.slice(reads)).toEqual(['drop/a/_REJECTED.json'])
  })

  test('is told everything that is wrong at once', async () => {
    const { config } = buildAdapter({ config: { r: 0, use_dora: true } })
    await putDrop(store, '-bad name', {}).catch(() => undefined)
    await putDrop(store, '-bad', {
      ...{ 'adapter_config.json': config, 'adapter_model.safetensors': text('no') },
      ...{ 'quiver.json': text({ pin: 'yes', typo: 1 }), 'chat_template.jinja': Uint8Array.from([0xff]) },
    })
    const outcome = await run('-bad')
    expect(outcome).toMatchObject({
      reasons: [
        expect.stringMatching(/adapter name "-bad" is not valid/),
        expect.stringMatching(/quiver\.json.*pin.*typo/s),
        expect.stringMatching(/chat_template\.jinja is not UTF-8/),
        expect.stringMatching(/has 2 bytes/),
      ],
    })
  })

  test('is refused by its first bytes: its weights are not read', async () => {
    const large = buildAdapter({
      layout: { ...tinyLayout, hiddenSize: 16_384, modules: [{ name: 'q_proj', inFeatures: 16_384, outFeatures: 16_384 }] },
      rank: 8,
      targets: ['q_proj'],
    })
    await putDrop(store, 'a', { 'adapter_config.json': large.config, 'adapter_model.safetensors': large.weights })
    const ranges: unknown[] = []
    const reading = new HookedStore(store, {})
    const get = reading.get.bind(reading)
    reading.get = (key, options) => {
      if (key.endsWith('.safetensors')) ranges.push(options?.range)
      return get(key, options)
    }
    expect(await run('a', { store: reading })).toMatchObject({ outcome: 'rejected' })
    expect(ranges).toEqual([{ start: 0, end: 256 * 1024 }])
  })

  test('under a name of somebody else is rejected', async () => {
    await publishTo(store, catalogue, 'a', 1, { tenant: 'acme' })
    await putDrop(store, 'a', soundDrop(2))
    expect(await run('a')).toMatchObject({ outcome: 'rejected', reasons: [expect.stringMatching(/'a' is taken/)] })
  })
})

describe('a drop that changes', () => {
  test('is left to the next job, whenever that happens', async () => {
    await putDrop(store, 'a', soundDrop(1))
    let isChanged = false
    const changing = new HookedStore(store, {
      async get(key, read) {
        if (key.endsWith('.safetensors') && !isChanged) {
          isChanged = true
          await putDrop(store, 'a', soundDrop(2))
        }
        return await read()
      },
    })
    expect(await run('a', { store: changing })).toEqual({ outcome: 'superseded' })
    expect(catalogue.entry('a')).toBeUndefined()
    expect(
      await runDropJob(
        { id: 'drop-of-before', name: 'a' },
        { ...({ store, bases: () => undefined } as unknown as DropJobDeps) },
        new AbortController().signal,
      ),
    ).toEqual({ outcome: 'superseded' })
  })

  test('while it is moved aside keeps what came new', async () => {
    await putDrop(store, 'a', soundDrop(1))
    const changing = new HookedStore(store, {
      async put(key, write) {
        const written = await write()
        if (key === 'drop/a/_CLEARING.json') await putDrop(store, 'a', soundDrop(2))
        return written
      },
    })
    expect(await run('a', { store: changing })).toMatchObject({ outcome: 'published', version: 1 })
    expect(await keysBelow(store, 'drop/')).toContain('drop/a/adapter_model.safetensors')
    expect(await run('a')).toMatchObject({ outcome: 'published', version: 2 })
    expect(await keysBelow(store, 'drop/')).toEqual(['drop/a/_PUBLISHED.json'])
  })

  test('is not lost to a publisher that comes late with what it read before', async () => {
    await putDrop(store, 'a', soundDrop(1))
    const first = dropId(await readDrop(store, 'a'))
    const late = Promise.withResolvers<void>()
    const slow = new HookedStore(store, {
      async put(key, write) {
        if (key === 'drop/a/_PUBLISHED.json') await late.promise
        return await write()
      },
    })
    const slowly = runDropJob(
      { id: first, name: 'a' },
      {
        ...{
          store: slow,
          catalogue: new Catalogue(slow),
          address: 's3://b',
          now: () => publishedAt,
          clock: new ManualClock(),
          log: () => {},
        },
        bases: () => ({ layout: tinyLayout, maxRank: 8 }),
      },
      new AbortController().signal,
    )
    await run('a')
    await putDrop(store, 'a', soundDrop(2))
    await run('a')
    await putDrop(store, 'a', soundDrop(3))
    late.resolve()
    expect(await slowly).toMatchObject({ outcome: 'published', version: 1 })
    expect(await readJsonObject(store, 'drop/a/_PUBLISHED.json')).toMatchObject({ version: 2 })
    expect(await run('a')).toMatchObject({ outcome: 'published', version: 3 })
    const entry = (await freshCatalogue(store)).entry(parseAdapterName('a'))
    expect(entry?.record.aliases.get('latest')).toMatchObject({ version: 3 })
  })
})
