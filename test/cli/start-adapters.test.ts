/** Adapters that TGI's and LoRAX's settings name for the start: how they are written, and what becomes of each. */
import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import type { Wishes } from '@quiver/gateway'
import { ServingError } from '@quiver/protocol'
import { describe, expect, test } from 'vitest'
import { optionText, readConfig } from '../../packages/cli/src/config.ts'
import type { Config, Surroundings } from '../../packages/cli/src/option-schema.ts'
import { parseStartAdapter } from '../../packages/cli/src/start-adapter.ts'
import { registerStartAdapters } from '../../packages/cli/src/start-adapters.ts'
import { freshCatalogue, publishedAt, publishTo } from '../support/catalogues.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

const around = (env: Record<string, string> = {}): Surroundings => ({ env, cwd: '/here', home: '/home/me', processors: 2 })

describe('the settings', () => {
  test.each([
    ['sql', { id: 'sql' }],
    ['org/name@main', { id: 'org/name', revision: 'main' }],
    ['sql=/adapters/sql', { id: 'sql', path: '/adapters/sql' }],
    ['sql=org/name@v2', { id: 'sql', path: 'org/name', revision: 'v2' }],
    ['a=b=c', undefined],
    ['a@b@c', undefined],
    ['=b', undefined],
    ['a b', undefined],
  ])('%s is read as TGI reads it', (text, expected) => {
    expect(parseStartAdapter(text)).toEqual(expected)
  })

  test('are joined by commas, and those of both launchers count', () => {
    const { config } = readConfig({}, around({ LORA_ADAPTERS: 'a, b=/x ,', PRELOADED_ADAPTER_IDS: 'org/c' }))
    expect([config.loraAdapters, config.preloadedAdapters]).toEqual([['a', 'b=/x'], ['org/c']])
    expect(optionText(config, 'loraAdapters')).toBe('a,b=/x')
    expect(readConfig({ preloadedAdapterIds: 'd' }, around()).config.preloadedAdapters).toEqual(['d'])
    expect(() => readConfig({}, around({ LORA_ADAPTERS: 'a=b=c' }))).toThrow(
      'LORA_ADAPTERS is "a=b=c", but must be adapters joined by commas',
    )
  })

  test('an admin key is never shown', () => {
    expect(() => readConfig({ adminKey: 'two words' }, around())).toThrow(
      '--admin-key is hidden, but must be a secret without spaces',
    )
  })
})

interface Registered {
  readonly source: object
  readonly wishes: Wishes
}

async function start(
  texts: readonly string[],
  options: { readonly source?: Config['adapterSource']; readonly failing?: string; readonly cwd?: string } = {},
) {
  const store = new MemoryStore()
  const catalogue = await freshCatalogue(store)
  await publishTo(store, catalogue, 'known', 1)
  const registered: Registered[] = []
  const lines = await registerStartAdapters(
    texts.map((text) => parseStartAdapter(text) ?? { id: text }),
    options.source ?? 'store',
    {
      catalogue,
      now: () => publishedAt,
      cwd: options.cwd ?? '/here',
      async registerNamed(source, wishes) {
        if (wishes.name === options.failing) throw new ServingError('source_unavailable', 'the hub is away')
        registered.push({ source, wishes })
      },
    },
    new AbortController().signal,
  )
  const isPinned = catalogue.entry('known')?.record.isPinned
  return { lines, isPinned, sources: registered.map(({ source, wishes }) => [wishes.name, wishes.pin, source]) }
}

describe('at the start', () => {
  test('a name of the catalogue is pinned, and nothing is fetched for it', async () => {
    expect(await start(['known'])).toEqual({ lines: [], isPinned: true, sources: [] })
  })

  test.each<[string, Config['adapterSource'], object]>([
    ['org/name', 'store', { type: 'hub', id: 'org/name' }],
    ['org/name@v1', 'store', { type: 'hub', id: 'org/name', revision: 'v1' }],
    ['org/name', 'hub', { type: 'hub', id: 'org/name' }],
    ['a=s3://bucket/a', 'hub', { type: 's3', uri: 's3://bucket/a' }],
    ['a=/x/a', 'store', { type: 'local', path: '/x/a' }],
    ['a=./x', 'store', { type: 'local', path: '/here/x' }],
    ['a=org/b@v2', 'store', { type: 'hub', id: 'org/b', revision: 'v2' }],
    ['sql', 'local', { type: 'local', path: '/here/sql' }],
  ])('%s with the source %s is registered from where it says, and pinned', async (text, source, expected) => {
    const { sources, lines } = await start([text], { source })
    const [name = ''] = text.split(/[=@]/)
    expect([sources, lines]).toEqual([[[name, true, expected]], []])
  })

  test('a path without a sign is a folder where there is one', async () => {
    const cwd = await temporaryFolder()
    await mkdir(path.join(cwd, 'org/b'), { recursive: true })
    expect((await start(['a=org/b'], { cwd })).sources).toEqual([['a', true, { type: 'local', path: path.join(cwd, 'org/b') }]])
  })

  test('one that fails is a line, and the others are registered', async () => {
    const { lines, sources } = await start(['org/a', 'org/b'], { failing: 'org/a' })
    expect([lines, sources.map(([name]) => name)]).toEqual([
      ['Adapter org/a of the start is not served: the hub is away'],
      ['org/b'],
    ])
  })

  test('one that fails and is known from before stays, pinned', async () => {
    const { lines, isPinned } = await start(['known=org/x'], { failing: 'known' })
    expect([lines, isPinned]).toEqual([['Adapter known of the start stays as it was: the hub is away'], true])
  })

  test('what can be no adapter anywhere is a line that says how to write it', async () => {
    const { lines } = await start(['nothing'])
    expect(lines).toEqual([expect.stringMatching(/^Adapter nothing of the start is not served: .*nothing=\/path/)])
  })
})
