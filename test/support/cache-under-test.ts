import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type AdapterCache,
  type AdapterCacheConfig,
  type AdapterCacheDeps,
  type AdapterIdentity,
  createAdapterCache,
} from '@quiver/cache'
import { inspectAdapter } from '@quiver/cache/format'
import { putStoredAdapter } from '@quiver/cache/store'
import { onTestFinished } from 'vitest'
import { type AdapterOptions, buildAdapter, tinyLayout } from './adapter-files.ts'
import { ManualClock } from './manual-clock.ts'
import { MemoryDevice } from './memory-device.ts'
import { MemoryStore } from './memory-store.ts'
import { temporaryFolder } from './temporary-folder.ts'

export interface CacheUnderTest {
  readonly cache: AdapterCache
  readonly clock: ManualClock
  readonly store: MemoryStore
  readonly device: MemoryDevice
  readonly cacheDir: string
  readonly localRoot: string
  readonly logged: string[]
  /** Registers a tiny adapter in the store under its digest; `alpha` tells adapters apart. */
  register(alpha: number): Promise<AdapterIdentity>
  /** Writes a tiny adapter below the local root. */
  place(path: string, options?: AdapterOptions): Promise<void>
}

/** The real cache over a temporary disk, a store and a device in memory, and a clock that stands still. */
export async function cacheUnderTest(
  config: Partial<AdapterCacheConfig> = {},
  slots = 3,
  deps: Partial<AdapterCacheDeps> = {},
): Promise<CacheUnderTest> {
  const [clock, store, device] = [new ManualClock(), new MemoryStore(), new MemoryDevice(slots)]
  const [cacheDir, localRoot, logged] = [config.cacheDir ?? (await temporaryFolder()), await temporaryFolder(), [] as string[]]
  const cache = await createAdapterCache(
    { layout: tinyLayout, dtype: 'f16', maxRank: 8, cacheDir, diskBytes: 1e9, ramBytes: 1e9, localRoots: [localRoot], ...config },
    { clock, store, device, log: (level, message) => logged.push(`${level}: ${message}`), ...deps },
  )
  // Before the folders go: what is being written would bring them back.
  onTestFinished(() => cache.close())
  return {
    cache,
    clock,
    store,
    device,
    cacheDir,
    localRoot,
    logged,
    async register(alpha) {
      const built = buildAdapter({ alpha })
      const { digest } = await inspectAdapter(built.config, built.weights, tinyLayout, 8)
      await putStoredAdapter(store, digest, built)
      return await cache.resolve({ kind: 'registered', name: `adapter-${alpha}`, digest })
    },
    async place(path, options) {
      const built = buildAdapter(options)
      await mkdir(join(localRoot, path), { recursive: true })
      await writeFile(join(localRoot, path, 'adapter_config.json'), built.config)
      await writeFile(join(localRoot, path, 'adapter_model.safetensors'), built.weights)
    },
  }
}
