import { existsSync, readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { ServingError } from '@quiver/protocol'

/** Where onnxruntime-node keeps the library for this platform. @throws ServingError `source_unavailable` when it is not there */
export function runtimeLibraryPath(): string {
  let root: string
  try {
    root = dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json'))
  } catch (cause) {
    throw new ServingError('source_unavailable', 'the package onnxruntime-node is not installed: run `npm ci`', {}, { cause })
  }
  const folder = join(root, 'bin', 'napi-v6', process.platform, process.arch)
  const name =
    existsSync(folder) && readdirSync(folder).find((file) => /^(lib)?onnxruntime(\.[\d.]+)?\.(so|dylib|dll)/.test(file))
  if (!name) {
    throw new ServingError('source_unavailable', `onnxruntime-node has no library for ${process.platform}/${process.arch}`)
  }
  return join(folder, name)
}
