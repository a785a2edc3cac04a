import type { AdapterDigest, BaseLayout, ModuleName } from '@quiver/protocol'
import { parseAdapterConfig } from './adapter-config.ts'
import { adapterDigest } from './digest.ts'
import { readSafetensors } from './safetensors.ts'
import { type ValidAdapter, validateAdapter } from './validate.ts'

/** What a publisher wants to know of an adapter that fits. */
export interface AdapterReport {
  readonly digest: AdapterDigest
  /** The largest rank of any module. */
  readonly rank: number
  /** Kinds of modules that the adapter changes, in the order of the forward pass. */
  readonly modules: readonly ModuleName[]
  /** Size of the weights file. */
  readonly bytes: number
}

/** The two files of an adapter, as their origin holds them. */
export interface AdapterFiles {
  readonly config: Uint8Array
  readonly weights: Uint8Array<ArrayBuffer>
}

/**
 * Reads both files and checks that they fit the base model: the one set of rules, at registration and at load.
 * @throws ServingError `adapter_invalid` with every reason found
 */
export async function readAdapter({ config, weights }: AdapterFiles, layout: BaseLayout, maxRank: number): Promise<ValidAdapter> {
  return await validateAdapter(parseAdapterConfig(config, maxRank), readSafetensors(weights), layout, maxRank)
}

/**
 * Decides whether an adapter may be registered, and under which digest.
 * @throws ServingError `adapter_invalid` with every reason found
 * @example const { digest } = await inspectAdapter(configBytes, weightsBytes, worker.layout, worker.limits.maxRank)
 */
export async function inspectAdapter(
  config: Uint8Array,
  weights: Uint8Array<ArrayBuffer>,
  layout: BaseLayout,
  maxRank: number,
): Promise<AdapterReport> {
  const { rank, pairs } = await readAdapter({ config, weights }, layout, maxRank)
  const changed = new Set(pairs.map(({ module }) => module.name))
  return {
    digest: await adapterDigest(parseAdapterConfig(config, maxRank), weights),
    rank,
    modules: layout.modules.map(({ name }) => name).filter((name) => changed.has(name)),
    bytes: weights.length,
  }
}
