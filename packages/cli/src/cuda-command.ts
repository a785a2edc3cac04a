/** `quiver cuda install`. */

import { createProcessRunner, cudaFolder, hasLibrary, installCuda, missingGpu } from '@quiver/worker'
import type { Config } from './option-schema.ts'

/**
 * Installs what `--device cuda` needs and is not there.
 * @throws ServingError as `installCuda` does
 */
export async function installCudaPackages(
  { cache, python }: Pick<Config, 'cache' | 'python'>,
  { stdout }: { readonly stdout: { write(text: string): unknown } },
): Promise<void> {
  const say = (line: string): void => void stdout.write(`${line}\n`)
  const missing = missingGpu()
  if (missing !== undefined) say(`Note: ${missing}; what is installed will serve where there is one.`)
  const stopping = new AbortController()
  const stop = (): void => stopping.abort()
  process.once('SIGINT', stop).once('SIGTERM', stop)
  try {
    await installCuda(
      { folder: cudaFolder(cache), python, platform: process.platform, arch: process.arch },
      { runProcess: createProcessRunner(process.env), signal: stopping.signal, onProgress: () => {}, say, hasLibrary },
    )
    say('Our own kernels are compiled by `npm run build:cuda`.')
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop)
  }
}
