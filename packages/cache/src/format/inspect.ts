import type { AdapterDigest, BaseLayout, ModuleName } from '@quiver/protocol'
import { parseAdapterConfig } from './adapter-config.ts'
import { adapterDigest } from './digest.ts'
import {
  MAX_HEADER_BYTES,
  parseSafetensorsHeader,
  readSafetensors,
  SAFETENSORS_PREFIX_BYTES,
  safetensorsHeaderBytes,
} from './safetensors.ts'
import { matchTensors, type ValidAdapter, validateAdapter } from './validate.ts'

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

/** The first bytes of a weights file that lies elsewhere. */
export interface WeightsStart {
  readonly bytes: Uint8Array<ArrayBuffer>
  /** Size of the whole file. */
  readonly fileBytes: number
}

/**
 * How many of its first bytes `inspectAdapterStart` needs.
 * @param start at least 8 bytes, unless the file has fewer
 * @throws ServingError `adapter_invalid` when no safetensors file begins like this
 */
export function adapterStartBytes({ bytes, fileBytes }: WeightsStart): number {
  const what = 'adapter_model.safetensors'
  return SAFETENSORS_PREFIX_BYTES + safetensorsHeaderBytes(bytes, { fileBytes, maxBytes: MAX_HEADER_BYTES, what })
}

/**
 * The same rules as `inspectAdapter`, as far as the config and the header of the weights tell: all but NaN and infinity. So what does
 * not fit is refused before it is read.
 * @param start as many bytes as `adapterStartBytes` says, or more
 * @throws ServingError `adapter_invalid` with every reason found
 */
export function inspectAdapterStart(config: Uint8Array, start: WeightsStart, layout: BaseLayout, maxRank: number): void {
  const parsed = parseAdapterConfig(config, maxRank)
  const headerEnd = adapterStartBytes(start)
  const entries = parseSafetensorsHeader(start.bytes.subarray(SAFETENSORS_PREFIX_BYTES, headerEnd), {
    tensorBytes: start.fileBytes - headerEnd,
    what: 'adapter_model.safetensors',
  })
  const none = new Uint8Array(new ArrayBuffer(0))
  const tensors = new Map(entries.map(({ name, dtype, shape }) => [name, { name, dtype, shape, bytes: none }]))
  matchTensors(parsed, tensors, layout, maxRank)
}
