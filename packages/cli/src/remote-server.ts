import path from 'node:path'
import { ServingError } from '@quiver/protocol'
import type { WorkerConfig } from '@quiver/worker'
import type { Config } from './option-schema.ts'

/** The server that computes for the worker, where one does. @throws ServingError `invalid_request` when it is not said which */
export function remoteOf(config: Config): WorkerConfig['remote'] {
  if (config.engine === 'onnx') return undefined
  if (config.remote === '') {
    throw new ServingError('invalid_request', '--engine remote needs the address of a server: --remote http://127.0.0.1:8000')
  }
  const { host } = new URL(config.remote)
  return {
    url: config.remote,
    kind: config.remoteKind,
    model: config.remoteModel,
    key: config.remoteKey,
    // One for each server: a worker clears its own when it starts.
    folder:
      config.remoteFolder === '' ? path.join(config.cache, 'remote-adapters', host.replaceAll(':', '-')) : config.remoteFolder,
    folderAtServer: config.remotePath,
  }
}
