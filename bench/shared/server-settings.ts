import { mkdir, symlink } from 'node:fs/promises'
import path from 'node:path'
import type { BenchContext } from '../bench.ts'

/**
 * `QUIVER_*` of a server that a bench starts. The model and its graph come from the cache that everybody uses, everything else lies in
 * the given folder: the bench's adapters do not stay behind in the disk tier.
 */
export async function serverSettings({ config }: BenchContext, folder: string): Promise<Record<string, string>> {
  const cache = path.join(folder, 'cache')
  await mkdir(cache, { recursive: true })
  for (const shared of ['models', 'graphs', 'operators']) {
    await mkdir(path.join(config.cache, shared), { recursive: true })
    await symlink(path.join(config.cache, shared), path.join(cache, shared))
  }
  return {
    QUIVER_MODEL: config.model,
    QUIVER_DTYPE: config.dtype,
    QUIVER_THREADS: String(config.threads),
    QUIVER_PYTHON: config.python,
    QUIVER_DATA: path.join(folder, 'data'),
    QUIVER_CACHE: cache,
  }
}
