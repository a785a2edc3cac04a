import type { HubFile } from '@quiver/cache/hub'
import { ServingError } from '@quiver/protocol'
import { hfFiles } from './hf-folder.ts'
import { shardIndexFile, singleWeightsFile } from './safetensors-weights.ts'

/** Which files of a repository are needed: all of `files`, and then the shards that `index` names. */
export interface NeededFiles {
  readonly files: readonly HubFile[]
  readonly index?: HubFile
}

/**
 * Chooses what to download: configuration and tokenizer with the safetensors weights, or the only GGUF file.
 * @throws ServingError `invalid_request` when the repository holds no model that can be read, or several
 */
export function chooseFiles(repo: string, listed: readonly HubFile[]): NeededFiles {
  const byPath = new Map(listed.map((file) => [file.path, file]))
  const weights = byPath.get(singleWeightsFile) ?? byPath.get(shardIndexFile)
  if (weights !== undefined && byPath.has(hfFiles.config)) {
    if (!byPath.has(hfFiles.tokenizer)) {
      throw new ServingError('invalid_request', `${repo} has no ${hfFiles.tokenizer}: models without one are not supported`)
    }
    const beside = Object.values(hfFiles).flatMap((path) => byPath.get(path) ?? [])
    return { files: [...beside, weights], ...(weights.path === shardIndexFile ? { index: weights } : {}) }
  }
  const gguf = listed.filter((file) => file.path.endsWith('.gguf'))
  const [only, ...more] = gguf
  if (only === undefined) {
    throw new ServingError(
      'invalid_request',
      `${repo} holds no model that can be read: neither ${hfFiles.config} with safetensors weights nor a .gguf file`,
    )
  }
  if (more.length > 0) {
    const names = gguf
      .slice(0, 8)
      .map((file) => file.path)
      .join(', ')
    throw new ServingError(
      'invalid_request',
      `${repo} holds ${gguf.length} GGUF files (${names}): download one and give its path`,
    )
  }
  return { files: [only] }
}

/** @throws ServingError `invalid_request` naming a shard that the repository does not have */
export function chooseShards(repo: string, listed: readonly HubFile[], shards: ReadonlyMap<string, string>): HubFile[] {
  const byPath = new Map(listed.map((file) => [file.path, file]))
  return [...new Set(shards.values())].toSorted().map((path) => {
    const file = byPath.get(path)
    if (file === undefined)
      throw new ServingError('invalid_request', `${repo}: ${shardIndexFile} names ${path}, which is not there`)
    return file
  })
}
