import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { inspectAdapter, maxWeightsBytes } from '@quiver/cache/format'
import { adapterSourceSchema, fetchSource, type SourceDeps } from '@quiver/cache/origin'
import { putStoredAdapter } from '@quiver/cache/store'
import { describe, expect, it } from 'vitest'
import { buildAdapter, tinyLayout } from '../../support/adapter-files.ts'
import { hubUnderTest } from '../../support/hub-adapters.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { MemoryStore } from '../../support/memory-store.ts'
import { refusal } from '../../support/refusal.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'

const { signal } = new AbortController()
const { config, weights } = buildAdapter()
const { digest } = await inspectAdapter(config, weights, tinyLayout, 8)

/** One adapter, everywhere, with a chat template beside it where that can be. */
async function everywhere(over: Partial<SourceDeps['limits']> = {}) {
  const { hub, folder, timers } = await hubUnderTest()
  const [store, bucket, clock] = [new MemoryStore(), new MemoryStore(), new ManualClock()]
  const localRoot = await temporaryFolder()
  await mkdir(join(localRoot, 'sql'))
  const files = {
    'adapter_config.json': config,
    'adapter_model.safetensors': weights,
    'chat_template.jinja': new TextEncoder().encode('{{ x }}'),
  }
  for (const [name, bytes] of Object.entries(files)) {
    await store.put(`staged/sql/${name}`, bytes)
    await bucket.put(`team/sql/${name}`, bytes)
    await writeFile(join(localRoot, 'sql', name), bytes)
    await writeFile(join(folder, name), bytes)
  }
  await putStoredAdapter(store, digest, { config, weights })
  const deps: SourceDeps = {
    limits: { maxRank: 8, maxWeightsBytes: maxWeightsBytes(tinyLayout, 8), ...over },
    clock,
    remote: { hub: { endpoint: hub.endpoint }, buckets: { allowed: ['models'], open: async () => bucket }, fetch, timers },
    localRoots: [localRoot],
    store,
  }
  return { deps, store, bucket, folder, localRoot }
}

const sources = [
  { type: 'hub', id: 'acme/sql' },
  { type: 's3', uri: 's3://models/team/sql' },
  { type: 'local', path: 'sql' },
  { type: 'store', uri: 'staged/sql' },
  { type: 'store', uri: `sha256:${digest}` },
  { type: 'store', uri: digest },
] as const

describe('a source of an adapter', () => {
  it.each(sources)('$type gives its files, their digest and where they came from: %j', async (source) => {
    const { deps } = await everywhere()
    const fetched = await fetchSource(adapterSourceSchema.parse(source), deps, signal)
    expect([fetched.digest, new Uint8Array(fetched.config), fetched.weights]).toEqual([digest, new Uint8Array(config), weights])
    const isByDigest = source.type === 'store' && source.uri.endsWith(digest)
    expect(fetched.chatTemplate).toBe(isByDigest ? undefined : '{{ x }}')
    expect(fetched.provenance).toMatchObject(isByDigest ? { type: 'store', uri: `sha256:${digest}` } : source)
  })

  it.each(sources.slice(0, 4))('S17 $type is too large before its weights are read: %j', async (source) => {
    const { deps, store, bucket } = await everywhere({ maxWeightsBytes: 10 })
    expect((await refusal(() => fetchSource(source, deps, signal))).code).toBe('too_large')
    expect([...store.gets, ...bucket.gets].filter((key) => key.endsWith('.safetensors'))).toEqual([])
  })

  it.each(sources.slice(0, 4))('$type with a chat template that is too long or no text is refused: %j', async (source) => {
    const { deps, store, bucket, folder, localRoot } = await everywhere()
    for (const [bytes, code] of [
      [new Uint8Array(65_537), 'too_large'],
      [Uint8Array.of(0xff, 0xfe), 'adapter_invalid'],
    ] as const) {
      await store.put('staged/sql/chat_template.jinja', bytes)
      await bucket.put('team/sql/chat_template.jinja', bytes)
      for (const place of [folder, join(localRoot, 'sql')]) await writeFile(join(place, 'chat_template.jinja'), bytes)
      expect((await refusal(() => fetchSource(source, deps, signal))).code).toBe(code)
    }
  })

  it.each([
    [{ type: 'store', uri: '../x' }, 'invalid_request'],
    [{ type: 'store', uri: 'staged' }, 'adapter_not_found'],
    [{ type: 'store', uri: 'a'.repeat(64) }, 'adapter_not_found'],
    [{ type: 's3', uri: 's3://others/team/sql' }, 'forbidden'],
    [{ type: 'local', path: '/etc' }, 'forbidden'],
    [{ type: 'hub', id: 'sql' }, 'invalid_request'],
    [{ type: 'hub', id: 'acme/sql', revision: 'v9' }, 'adapter_not_found'],
  ] as const)('%j is %s', async (source, code) => {
    const { deps } = await everywhere()
    expect((await refusal(() => fetchSource(source, deps, signal))).code).toBe(code)
  })

  it('is not begun when it was called off', async () => {
    const { deps, store } = await everywhere()
    const before = store.gets.length
    expect((await refusal(() => fetchSource(sources[3], deps, AbortSignal.abort()))).code).toBe('client_closed')
    expect(store.gets).toHaveLength(before)
  })
})

it('what a publisher says is parsed, and a token is not repeated', () => {
  for (const wrong of [
    { type: 'ftp' },
    { type: 'hub' },
    { type: 's3', uri: '' },
    { type: 'hub', id: 'a/b', token: 'hf sécret' },
  ]) {
    const parsed = adapterSourceSchema.safeParse(wrong)
    expect(parsed.success).toBe(false)
    expect(JSON.stringify(parsed.error)).not.toContain('sécret')
  }
})
