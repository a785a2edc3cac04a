import { maxWeightsBytes } from '@quiver/cache/format'
import { BucketOrigin, parseBucketPlace } from '@quiver/cache/origin'
import { ServingError } from '@quiver/protocol'
import { describe, expect, it } from 'vitest'
import { type AdapterOptions, buildAdapter, tinyLayout } from '../../support/adapter-files.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { MemoryStore } from '../../support/memory-store.ts'
import { refusal } from '../../support/refusal.ts'

const { signal } = new AbortController()
const limits = { maxRank: 8, maxWeightsBytes: maxWeightsBytes(tinyLayout, 8) }

function underTest(allowed: readonly string[] = ['models'], over: Partial<typeof limits> = {}) {
  const clock = new ManualClock()
  const stores = new Map<string, MemoryStore>()
  const opened: string[] = []
  const storeOf = (bucket: string) => {
    const store = stores.get(bucket) ?? new MemoryStore()
    stores.set(bucket, store)
    return store
  }
  const open = async (bucket: string) => {
    opened.push(bucket)
    return storeOf(bucket)
  }
  const origin = new BucketOrigin({ allowed, open }, { ...limits, ...over }, { clock, timers: clock })
  const place = async (bucket: string, prefix: string, options: AdapterOptions = {}) => {
    const { config, weights } = buildAdapter(options)
    await storeOf(bucket).put(`${prefix}/adapter_config.json`, config)
    await storeOf(bucket).put(`${prefix}/adapter_model.safetensors`, weights)
  }
  return { origin, clock, opened, storeOf, place }
}

describe('a folder in a bucket', () => {
  it('is the same adapter by every way of naming it, with its etags as provenance', async () => {
    const { origin, place } = underTest()
    await place('models', 'team/sql')
    const found = await origin.resolve({ uri: 's3://models/team/sql' })
    for (const uri of ['models/team/sql', 's3://models/team/sql/', 'S3://models/team/sql']) {
      expect((await origin.resolve({ uri })).digest).toBe(found.digest)
    }
    expect(found.provenance).toMatchObject({
      type: 's3',
      uri: 's3://models/team/sql',
      revision: expect.stringMatching(/^[0-9a-f]{64}$/),
    })
    expect((await found.fetch(signal)).weights).toEqual(buildAdapter().weights)
  })

  it('is read once for its digest and its weights together, and again for who comes later', async () => {
    const { origin, place, storeOf } = underTest()
    await place('models', 'sql')
    const found = await origin.resolve({ uri: 'models/sql' })
    await found.fetch(signal)
    expect(storeOf('models').gets).toHaveLength(2)
    expect((await found.fetch(signal)).weights).toEqual(buildAdapter().weights)
    expect(storeOf('models').gets).toHaveLength(4)
  })

  it('does not keep in memory what nobody has come for', async () => {
    const { origin, place, storeOf, clock } = underTest()
    await place('models', 'sql')
    const found = await origin.resolve({ uri: 'models/sql' })
    clock.advance(30_000)
    await found.fetch(signal)
    expect(storeOf('models').gets).toHaveLength(4)
    expect(clock.pending).toBe(0)
  })

  it('O12 that is replaced is the new adapter five seconds later at most, without being read where it is known', async () => {
    const { origin, place, storeOf, clock } = underTest()
    await place('models', 'sql')
    const first = await origin.resolve({ uri: 'models/sql' })
    await place('models', 'sql', { alpha: 7 })
    clock.advance(5_001)
    expect((await origin.resolve({ uri: 'models/sql' })).digest).not.toBe(first.digest)
    await place('models', 'sql')
    clock.advance(5_001)
    const reads = storeOf('models').gets.length
    expect((await origin.resolve({ uri: 'models/sql' })).digest).toBe(first.digest)
    expect(storeOf('models').gets).toHaveLength(reads)
  })

  it('O14 is named exactly: sql is not sql-v2, and nothing is listed', async () => {
    const { origin, place, storeOf } = underTest()
    await place('models', 'team/sql-v2')
    Object.assign(storeOf('models'), { list: () => expect.unreachable('nothing is listed') })
    expect((await refusal(() => origin.resolve({ uri: 'models/team/sql' }))).code).toBe('adapter_not_found')
    expect((await refusal(() => origin.resolve({ uri: 'models/team' }))).code).toBe('adapter_not_found')
  })

  it('O17 is looked up once for a hundred that ask at once, and a failure is told to all of them', async () => {
    const { origin, place, storeOf } = underTest()
    await place('models', 'sql')
    await Promise.all(Array.from({ length: 100 }, () => origin.resolve({ uri: 'models/sql' })))
    expect(storeOf('models').gets).toHaveLength(2)
    storeOf('models').onGet = async () => {
      throw new ServingError('source_unavailable', 'the store is down')
    }
    await place('models', 'other')
    const all = await Promise.allSettled(Array.from({ length: 100 }, () => origin.resolve({ uri: 'models/other' })))
    expect(all.every((one) => one.status === 'rejected' && one.reason.code === 'source_unavailable')).toBe(true)
    expect(storeOf('models').gets).toHaveLength(3)
  })
})

describe('which folders may be named', () => {
  it('those in an allowed bucket, or below an allowed folder by whole names', async () => {
    const { origin, place, opened } = underTest(['models', 'shared/team-a'])
    for (const [bucket, prefix] of [
      ['models', 'x'],
      ['shared', 'team-a/sql'],
      ['shared', 'team-a'],
    ] as const) {
      await place(bucket, prefix)
      await origin.resolve({ uri: `${bucket}/${prefix}` })
    }
    const asked = opened.length
    for (const uri of ['other/x', 'shared/team-b/sql', 'shared/team-a2/sql', 'shared', 'model/x', 'models2/x']) {
      const refused = await refusal(() => origin.resolve({ uri }))
      expect([refused.code, refused.message]).toEqual(['forbidden', expect.stringContaining('outside of the buckets')])
    }
    expect(opened).toHaveLength(asked)
  })

  it('none when no bucket is allowed', async () => {
    const refused = await refusal(() => underTest([]).origin.resolve({ uri: 'models/x' }))
    expect([refused.code, refused.message]).toEqual(['forbidden', expect.stringContaining('QUIVER_S3_BUCKETS')])
  })

  it.each([
    'models/../x',
    'models/./x',
    'models//x',
    'models/%2e%2e/x',
    'models/.hidden',
    'models/a b',
    'models/a\\b',
    'models/a\0',
    '/models/x',
    'https://models/x',
    's3://',
    's3:///x',
    'MODELS/x',
    'mo',
    '..',
    'a..b/x',
    '',
    `models/${'x/'.repeat(600)}`,
    'models/x?versionId=1',
    'models/x#y',
  ])('H15 %j is refused without asking a store', async (uri) => {
    const { origin, opened } = underTest()
    expect((await refusal(() => origin.resolve({ uri }))).code).toBe('invalid_request')
    expect(opened).toEqual([])
  })

  it('what is allowed must be a place too', () => {
    expect(() => underTest(['Models'])).toThrow('is not a folder in a bucket')
    expect(parseBucketPlace('s3://models')).toEqual({ bucket: 'models', prefix: '' })
  })
})

describe('what is refused by name', () => {
  it.each<[string, string, string, RegExp]>([
    ['C01 no config', 'adapter_config.json', 'config.json', /adapter_config\.json is missing/],
    ['O11 no weights yet', 'adapter_model.safetensors', 'weights', /adapter_model\.safetensors is missing/],
    ['S16 a pickle alone', 'adapter_model.safetensors', 'adapter_model.bin', /a pickle, which is never opened/],
    [
      'S15 weights in several files',
      'adapter_model.safetensors',
      'adapter_model.safetensors.index.json',
      /split into several files/,
    ],
  ])('%s', async (_, name, instead, message) => {
    const { origin, place, storeOf } = underTest()
    await place('models', 'sql')
    const { objects, gets } = storeOf('models')
    objects.set(`sql/${instead}`, objects.get(`sql/${name}`) ?? new Uint8Array())
    objects.delete(`sql/${name}`)
    const refused = await refusal(() => origin.resolve({ uri: 'models/sql' }))
    expect([refused.code, refused.message]).toEqual(['adapter_invalid', expect.stringMatching(message)])
    expect(gets).toEqual([])
  })

  it('S17 weights or a config that are too large, before a byte is read', async () => {
    const { origin, place, storeOf } = underTest(['models'], { maxWeightsBytes: 100 })
    await place('models', 'sql')
    const refused = await refusal(() => origin.resolve({ uri: 'models/sql' }))
    expect([refused.code, refused.message]).toEqual(['too_large', expect.stringContaining('at most 100 are allowed')])
    await place('models', 'long', { config: { note: 'x'.repeat(66_000) } })
    expect((await refusal(() => origin.resolve({ uri: 'models/long' }))).message).toContain(
      'adapter_config.json at "s3://models/long"',
    )
    expect(storeOf('models').gets).toEqual([])
  })

  it('C03 a rank above the maximum, before the weights are read', async () => {
    const { origin, place, storeOf } = underTest()
    await place('models', 'sql', { rank: 9 })
    expect((await refusal(() => origin.resolve({ uri: 'models/sql' }))).code).toBe('adapter_invalid')
    expect(storeOf('models').gets).toEqual(['sql/adapter_config.json'])
  })
})

describe('a folder that changes while it is read', () => {
  it('O05 once is the new version, whole', async () => {
    const { origin, place, storeOf } = underTest()
    await place('models', 'sql')
    storeOf('models').onGet = async () => {
      storeOf('models').onGet = async () => {}
      await place('models', 'sql', { alpha: 7, value: () => 1 })
    }
    const found = await origin.resolve({ uri: 'models/sql' })
    expect((await found.fetch(signal)).weights).toEqual(buildAdapter({ value: () => 1 }).weights)
  })

  it('O05 again and again is a conflict, and never a mixture', async () => {
    const { origin, place, storeOf } = underTest()
    await place('models', 'sql')
    let version = 0
    storeOf('models').onGet = async (key) => {
      if (key.endsWith('.safetensors')) await place('models', 'sql', { alpha: ++version, value: () => version })
    }
    const refused = await refusal(() => origin.resolve({ uri: 'models/sql' }))
    expect([refused.code, refused.message]).toEqual(['conflict', expect.stringContaining('was changed while it was being read')])
  })

  it('O13 away is told, and what was found before is not served from elsewhere', async () => {
    const { origin, place, storeOf, clock } = underTest()
    await place('models', 'sql')
    const found = await origin.resolve({ uri: 'models/sql' })
    clock.advance(30_000)
    storeOf('models').objects.clear()
    expect((await refusal(() => found.fetch(signal))).code).toBe('conflict')
    expect((await refusal(() => origin.resolve({ uri: 'models/sql' }))).code).toBe('adapter_not_found')
  })
})
