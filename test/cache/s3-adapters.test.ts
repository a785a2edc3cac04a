/** Adapters whose origin is an S3 server, with what it does wrong between the tiers and it. */
import { readdir } from 'node:fs/promises'
import { type AdapterCache, type AdapterIdentity, createAdapterCache } from '@quiver/cache'
import { inspectAdapter } from '@quiver/cache/format'
import { type ObjectStore, putStoredAdapter, type S3StoreOptions, storedAdapterKeys, WatchedStore } from '@quiver/cache/store'
import type { Logger } from '@quiver/protocol'
import { describe, expect, it, onTestFinished } from 'vitest'
import { buildAdapter, tinyLayout } from '../support/adapter-files.ts'
import { type Fault, FaultProxy } from '../support/fault-proxy.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { MemoryDevice } from '../support/memory-device.ts'
import { refusal } from '../support/refusal.ts'
import { s3StoreAt } from '../support/s3-stores.ts'
import { freshFolder } from '../support/shared-s3.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

const log: Logger = () => {}
const quick = {
  retry: { attempts: 2, budgetMs: 20_000, firstPauseMs: 1, longestPauseMs: 1 },
  time: { connectMs: 3_000, answerMs: 10_000, windowMs: 5_000, bytesPerWindow: 1 },
}

interface Setting {
  readonly proxy: FaultProxy
  /** Past the proxy. */
  readonly direct: ObjectStore
  readonly store: WatchedStore
  readonly clock: ManualClock
  readonly cacheDir: string
  readonly cache: AdapterCache
  /** Another process on the same folder, after the first has ended. */
  reopened(): Promise<AdapterCache>
}

async function setting(options: S3StoreOptions = quick): Promise<Setting> {
  const folder = await freshFolder()
  const proxy = await FaultProxy.start(folder.endpoint)
  const clock = new ManualClock()
  const store = new WatchedStore(s3StoreAt({ ...folder, endpoint: proxy.url }, options), { clock })
  const cacheDir = await temporaryFolder()
  const open = async (): Promise<AdapterCache> => {
    const config = {
      layout: tinyLayout,
      dtype: 'f16' as const,
      maxRank: 8,
      cacheDir,
      diskBytes: 1e9,
      ramBytes: 1e9,
      localRoots: [],
    }
    const opened = await createAdapterCache(config, { clock, store, device: new MemoryDevice(3), log })
    onTestFinished(() => opened.close())
    return opened
  }
  const cache = await open()
  const reopened = async () => {
    await cache.close()
    return await open()
  }
  return { proxy, direct: s3StoreAt(folder), store, clock, cacheDir, cache, reopened }
}

/** Puts a tiny adapter where registration would; `alpha` tells adapters apart. */
async function published(store: ObjectStore, alpha: number): Promise<AdapterIdentity> {
  const built = buildAdapter({ alpha })
  const { digest } = await inspectAdapter(built.config, built.weights, tinyLayout, 8)
  await putStoredAdapter(store, digest, built)
  return { digest, name: `adapter-${alpha}` }
}

const slowDown: Fault = {
  kind: 'answer',
  status: 503,
  headers: { 'content-type': 'application/xml' },
  body: Buffer.from('<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>'),
}

/** Loads it and lets it go. */
async function load(cache: AdapterCache, identity: AdapterIdentity): Promise<void> {
  const lease = cache.lease(identity)
  try {
    await lease.ready
  } finally {
    lease.release()
  }
}

/** Names of packed adapters, finished and not. */
const onDisk = async (folder: string) => (await readdir(folder, { recursive: true })).filter((name) => /[0-9a-f]{64}/.test(name))

describe('an adapter in S3', () => {
  it('O17 is downloaded once for a hundred requests at once', async () => {
    const { proxy, direct, cache } = await setting()
    const identity = await published(direct, 4)
    await Promise.all(Array.from({ length: 100 }, () => load(cache, identity)))
    expect(proxy.requests.filter(({ method }) => method === 'GET')).toHaveLength(2)
  })

  it('O17 that cannot be had fails a hundred requests at once, for one of their attempts', async () => {
    const { proxy, direct, cache } = await setting()
    const identity = await published(direct, 4)
    proxy.spoil = () => ({ kind: 'answer', status: 403 })
    const failures = await Promise.all(Array.from({ length: 100 }, () => refusal(() => load(cache, identity))))
    expect(new Set(failures.map(({ code }) => code))).toEqual(new Set(['source_unavailable']))
    expect(proxy.requests).toHaveLength(1)
  })

  it('O02 O03 that cannot be had is not asked for by every request, and does not trouble those that are here', async () => {
    const { proxy, direct, cache, clock } = await setting()
    const [here, cold] = [await published(direct, 4), await published(direct, 5)]
    await load(cache, here)
    const before = proxy.requests.length
    proxy.spoil = () => ({ kind: 'answer', status: 403 })
    for (let request = 0; request < 50; request++) {
      expect((await refusal(() => load(cache, cold))).code).toBe('source_unavailable')
      await load(cache, here)
    }
    expect(proxy.requests.length - before).toBe(1)
    proxy.spoil = () => undefined
    clock.advance(60_000)
    await load(cache, cold)
  })

  it('O01 that is not there yet is found some seconds after it came', async () => {
    const { direct, cache, clock } = await setting()
    const built = buildAdapter({ alpha: 4 })
    const { digest } = await inspectAdapter(built.config, built.weights, tinyLayout, 8)
    const identity = { digest, name: 'a' }
    expect((await refusal(() => load(cache, identity))).code).toBe('adapter_not_found')
    await putStoredAdapter(direct, digest, built)
    clock.advance(60_000)
    await load(cache, identity)
  })

  it('O07 whose bytes have their checksums but not its digest is refused, and nothing of it is kept', async () => {
    const { direct, cache, cacheDir } = await setting()
    const identity = await published(direct, 4)
    const [other, keys] = [buildAdapter({ alpha: 8 }), storedAdapterKeys(identity.digest)]
    await direct.put(keys.weights, other.weights)
    await direct.put(keys.config, other.config)
    const error = await refusal(() => load(cache, identity))
    expect(error.code).toBe('source_unavailable')
    expect(error.message).toContain('publish it again')
    expect(await onDisk(cacheDir)).toEqual([])
  })

  it('O13 that is deleted while it is here is served on, also after a restart, until it is evicted', async () => {
    const { direct, cache, reopened } = await setting()
    const identity = await published(direct, 4)
    await load(cache, identity)
    for (const key of Object.values(storedAdapterKeys(identity.digest))) await direct.delete(key)
    await load(cache, identity)
    await load(await reopened(), identity)
  })

  it('O13 that is deleted while it arrives is not found, and leaves nothing behind', async () => {
    const { proxy, direct, cache, cacheDir } = await setting()
    const identity = await published(direct, 4)
    const { weights } = storedAdapterKeys(identity.digest)
    proxy.spoil = async ({ path }) => {
      if (!path.includes('adapter_model')) return undefined
      await direct.delete(weights)
      return { kind: 'cut', at: 10 }
    }
    const error = await refusal(() => load(cache, identity))
    expect(error.code).toBe('adapter_not_found')
    expect(cache.residency(identity.digest)).not.toMatchObject({ state: 'resident' })
    expect(await onDisk(cacheDir)).toEqual([])
  })

  it('O16 is served from disk by a process that starts while the store is down, which says so until it is back', async () => {
    const { proxy, direct, store, clock, cache, reopened } = await setting()
    const [known, cold] = [await published(direct, 4), await published(direct, 5)]
    await load(cache, known)
    proxy.setDown(true)
    const restarted = await reopened()
    await load(restarted, known)
    expect((await refusal(() => load(restarted, cold))).code).toBe('source_unavailable')
    expect(store.health()).toMatchObject({ status: 'failing' })
    proxy.setDown(false)
    clock.advance(60_000)
    await load(restarted, cold)
    expect(store.health()).toEqual({ status: 'ok' })
  })

  it('G14 by the hundreds at once, at a worker that has none of them, all come, and the store has to ask for patience only seldom', async () => {
    const patient = { ...quick, retry: { attempts: 5, budgetMs: 60_000, firstPauseMs: 1, longestPauseMs: 4 } }
    const { proxy, store, cache } = await setting(patient)
    const [identities, objects] = [[] as AdapterIdentity[], new Map<string, Uint8Array>()]
    for (let alpha = 1; alpha <= 300; alpha++) {
      const built = buildAdapter({ alpha })
      const { digest } = await inspectAdapter(built.config, built.weights, tinyLayout, 8)
      const keys = storedAdapterKeys(digest)
      objects.set(keys.config, built.config).set(keys.weights, built.weights)
      identities.push({ digest, name: `adapter-${alpha}` })
    }
    const allowed = 3
    let [most, refused] = [0, 0]
    // The proxy has them itself: to put so many into the server takes longer than all else here.
    proxy.spoil = async ({ path }) => {
      most = Math.max(most, proxy.underWay)
      if (proxy.underWay > allowed) {
        refused += 1
        return slowDown
      }
      await new Promise((resolve) => setImmediate(resolve))
      const [, body] = [...objects].find(([key]) => path.includes(key)) ?? []
      if (body === undefined) throw new Error(`nobody asked for ${path} to be there`)
      return { kind: 'answer', status: 200, headers: { etag: '"one"' }, body: Buffer.from(body) }
    }
    await Promise.all(identities.map((identity) => load(cache, identity)))
    expect(store.health()).toEqual({ status: 'ok' })
    expect(proxy.requests.length - refused).toBe(600)
    // 8 together at first, a few more before the first refusal is heard.
    expect(most).toBeLessThanOrEqual(12)
    expect(refused).toBeGreaterThan(0)
    expect(refused).toBeLessThanOrEqual(30)
  })
})
