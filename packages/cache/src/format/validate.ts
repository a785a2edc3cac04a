/**
 * Decides whether an adapter fits a base model. An adapter that half fits would answer with half of its training, so every
 * tensor of the file must have its place and every module that the config targets must have both of its tensors.
 *
 * Names of tensors: `base_model.model.model.layers.<n>.<self_attn|mlp>.<module>.lora_<A|B>.weight`. The prefix
 * `base_model.model.` may be missing (some converters strip it) and `.default` may stand before `.weight` (older PEFT wrote
 * the adapter's name); two spellings of one tensor are refused as a repetition. Every other name is refused.
 */

import { type BaseLayout, type LinearModule, moduleParent } from '@quiver/protocol'
import { nextTurn } from '../turns.ts'
import type { AdapterConfig } from './adapter-config.ts'
import { adapterInvalid, Problems, quoted } from './adapter-problem.ts'
import { bf16Exponent, f16Exponent, f32Exponent, firstNotFinite } from './half.ts'
import { modulePath, type TargetedModule, targetedModules } from './module-match.ts'
import type { TensorView } from './safetensors.ts'

/** One low-rank pair whose tensors were checked: A is [rank, in], B is [out, rank], all values finite. */
export interface AdapterPair extends TargetedModule {
  readonly a: TensorView
  readonly b: TensorView
}

/** An adapter that fits the base model it was checked against. */
export interface ValidAdapter {
  /** The largest rank of any module. */
  readonly rank: number
  /** By layer, then in the layout's order of modules. */
  readonly pairs: readonly AdapterPair[]
}

const TENSOR_NAME =
  /^(?:base_model\.model\.)?model\.layers\.(0|[1-9][0-9]{0,5})\.(self_attn|mlp)\.([A-Za-z0-9_]+)\.lora_(A|B)(?:\.default)?\.weight$/

/** Names that other kinds of adapters use, with what they mean. */
const refusedNames: readonly (readonly [RegExp, string])[] = [
  [/lora_embedding_[AB]/, 'an adapter on the embedding is not supported'],
  [/(?:^|\.)lm_head\./, 'an adapter on the head (lm_head) is not supported'],
  [/(?:^|\.)embed_tokens\./, 'an adapter on the embedding (embed_tokens) is not supported'],
  [/lora_magnitude_vector/, 'DoRA magnitudes are not supported'],
  [/lora_[AB](?:\.default)?\.bias$/, 'a bias on an adapter is not supported'],
  [/\.(?:modules_to_save|base_layer)\./, 'fully trained modules are not supported'],
]

/** The dtypes that an adapter may have. */
const adapterDtypes = new Map<string, { readonly bytes: number; readonly exponent: number }>([
  ['F32', { bytes: 4, exponent: f32Exponent }],
  ['F16', { bytes: 2, exponent: f16Exponent }],
  ['BF16', { bytes: 2, exponent: bf16Exponent }],
])

/** Bytes scanned for NaN before the event loop gets a turn: about a millisecond of work. */
const SCAN_BYTES_PER_TURN = 2 * 1024 * 1024

interface FoundPair {
  readonly layer: number
  readonly moduleName: string
  a?: TensorView
  b?: TensorView
}

/**
 * @param tensors as `readSafetensors` gives them
 * @throws ServingError `adapter_invalid` with every reason found
 */
export async function validateAdapter(
  config: AdapterConfig,
  tensors: ReadonlyMap<string, TensorView>,
  layout: BaseLayout,
  maxRank: number,
): Promise<ValidAdapter> {
  const pairs = matchTensors(config, tensors, layout, maxRank)
  // Scanned last: only tensors of the right size are worth reading.
  const problems = new Problems()
  await refuseNotFinite(pairs, problems)
  problems.throwIfAny()
  return { rank: Math.max(...pairs.map(({ rank }) => rank)), pairs }
}

/**
 * Everything that names, dtypes and shapes tell; the tensors' bytes are not read.
 * @throws ServingError `adapter_invalid` with every reason found
 */
export function matchTensors(
  config: AdapterConfig,
  tensors: ReadonlyMap<string, TensorView>,
  layout: BaseLayout,
  maxRank: number,
): readonly AdapterPair[] {
  const otherBase = saysOtherBase(config, layout)
  const found = sortTensors(tensors, otherBase)
  refuseOtherBase(config, found, layout)
  const problems = new Problems()
  const targeted = targetedModules(config, layout, maxRank, problems)
  refuseUntargeted(found, targeted, layout, problems)
  const pairs: AdapterPair[] = []
  for (const target of targeted) {
    const pair = checkPair(target, found.get(modulePath(target.layer, target.module)), problems)
    if (pair !== undefined) pairs.push(pair)
  }
  if (targeted.length === 0) problems.add('the config targets no module of the base model')
  problems.throwIfAny(otherBase)
  return pairs
}

/**
 * Why nothing fits, where the config says so itself. Shapes alone decide: an adapter that fits is taken whatever its config calls the
 * base model, because the same model has many names.
 */
function saysOtherBase({ baseModel }: AdapterConfig, layout: BaseLayout): string | undefined {
  if (baseModel === undefined || baseModel === '' || lastPart(baseModel) === lastPart(layout.baseModel)) return undefined
  return `the adapter was trained for ${quoted(baseModel)}, this worker serves ${quoted(layout.baseModel)}`
}

function lastPart(model: string): string {
  return model.replace(/\/+$/, '').replace(/^.*\//, '').toLowerCase()
}

/** Groups tensors by module path. @throws ServingError `adapter_invalid` for names that have no place */
function sortTensors(tensors: ReadonlyMap<string, TensorView>, otherBase: string | undefined): Map<string, FoundPair> {
  const problems = new Problems()
  const found = new Map<string, FoundPair>()
  if (tensors.size === 0) problems.add('adapter_model.safetensors holds no tensor')
  for (const tensor of tensors.values()) {
    const [, layer, parent, moduleName, side] = TENSOR_NAME.exec(tensor.name) ?? []
    if (layer === undefined || parent === undefined || moduleName === undefined) {
      problems.add(
        `tensor ${quoted(tensor.name)}: ${refusedNames.find(([name]) => name.test(tensor.name))?.[1] ?? 'the name has no place in the base model'}`,
      )
      continue
    }
    const path = `model.layers.${layer}.${parent}.${moduleName}`
    const pair = found.get(path) ?? { layer: Number(layer), moduleName }
    found.set(path, pair)
    const key = side === 'A' ? 'a' : 'b'
    if (pair[key] !== undefined) problems.add(`tensor ${quoted(tensor.name)} repeats lora_${side} of ${path}`)
    pair[key] = tensor
    const dtype = adapterDtypes.get(tensor.dtype)
    if (dtype === undefined)
      problems.add(`tensor ${quoted(tensor.name)} has dtype ${tensor.dtype}; F32, F16 and BF16 are supported`)
    if (tensor.shape.length !== 2 || tensor.shape.includes(0)) {
      problems.add(`tensor ${quoted(tensor.name)} has shape [${tensor.shape.join(', ')}]; two dimensions above 0 are needed`)
    }
  }
  // With a place for some of them it is this kind of model, and the others are at fault.
  problems.throwIfAny(found.size === 0 ? otherBase : undefined)
  return found
}

/** Says "this is for another model" once, instead of a wrong shape per tensor. */
function refuseOtherBase(config: AdapterConfig, found: ReadonlyMap<string, FoundPair>, layout: BaseLayout): void {
  const sizes = new Set<number | undefined>()
  for (const { moduleName, a, b } of found.values()) {
    const readsHidden = moduleName !== 'o_proj' && moduleName !== 'down_proj'
    if (!layout.modules.some(({ name }) => name === moduleName)) continue
    sizes.add(readsHidden ? a?.shape[1] : b?.shape[0])
  }
  const [hidden] = sizes
  if (sizes.size !== 1 || hidden === undefined || hidden === layout.hiddenSize) return
  // A and B in each other's place make the rank look like the hidden size; that deserves its own message.
  if (hidden === config.rank) return
  const trainedFor = config.baseModel === undefined ? 'another base model' : quoted(config.baseModel)
  throw adapterInvalid(
    `the adapter was trained for ${trainedFor} (hidden size ${hidden}), this worker serves ${quoted(layout.baseModel)} (${layout.hiddenSize})`,
  )
}

function refuseUntargeted(
  found: ReadonlyMap<string, FoundPair>,
  targeted: readonly TargetedModule[],
  layout: BaseLayout,
  problems: Problems,
): void {
  const targets = new Set(targeted.map(({ layer, module }) => modulePath(layer, module)))
  const known = new Set(layout.modules.map(({ name }) => `${moduleParent[name]}.${name}`))
  for (const [path, { layer }] of found) {
    if (targets.has(path)) continue
    const inLayer = path.split('.').slice(3).join('.')
    if (!known.has(inLayer)) problems.add(`the file has tensors for ${path}: the base model has no module ${quoted(inLayer)}`)
    else if (layer >= layout.layerCount)
      problems.add(`the file has tensors for ${path}: the base model has ${layout.layerCount} layers`)
    else problems.add(`the file has tensors for ${path}, which adapter_config.json does not target`)
  }
}

function checkPair(target: TargetedModule, found: FoundPair | undefined, problems: Problems): AdapterPair | undefined {
  const path = modulePath(target.layer, target.module)
  const { a, b } = found ?? {}
  if (a === undefined || b === undefined) {
    const missing = a === undefined ? (b === undefined ? 'lora_A and lora_B are' : 'lora_A is') : 'lora_B is'
    problems.add(`${path} is targeted, but ${missing} missing`)
    return undefined
  }
  const { inFeatures, outFeatures } = target.module
  const fits = checkShape(a, [target.rank, inFeatures], `${path}.lora_A`, target.module, problems)
  return checkShape(b, [outFeatures, target.rank], `${path}.lora_B`, target.module, problems) && fits
    ? { ...target, a, b }
    : undefined
}

function checkShape(
  tensor: TensorView,
  [rows, columns]: readonly [number, number],
  what: string,
  module: LinearModule,
  problems: Problems,
): boolean {
  const [haveRows, haveColumns] = tensor.shape
  if (haveRows === rows && haveColumns === columns) return true
  const swapped = haveRows === columns && haveColumns === rows ? '; it looks transposed, or A and B swapped' : ''
  problems.add(
    `${what} has shape [${tensor.shape.join(', ')}] instead of [${rows}, ${columns}] ` +
      `(${module.name} of the base model has ${module.inFeatures} in and ${module.outFeatures} out)${swapped}`,
  )
  return false
}

async function refuseNotFinite(pairs: readonly AdapterPair[], problems: Problems): Promise<void> {
  let scanned = 0
  for (const tensor of pairs.flatMap(({ a, b }) => [a, b])) {
    const exponent = adapterDtypes.get(tensor.dtype)?.exponent
    if (exponent === undefined) throw new Error('dtypes were checked before')
    const index = firstNotFinite(elementBits(tensor), exponent)
    if (index >= 0) problems.add(`tensor ${quoted(tensor.name)} holds NaN or infinity at element ${index}`)
    scanned += tensor.bytes.length
    if (scanned < SCAN_BYTES_PER_TURN) continue
    scanned = 0
    await nextTurn()
  }
}

/** The elements as raw bits: 32 for F32, 16 for F16 and BF16. Copies only when the file places the tensor unaligned. */
export function elementBits({ dtype, bytes }: TensorView): Uint32Array<ArrayBuffer> | Uint16Array<ArrayBuffer> {
  const size = adapterDtypes.get(dtype)?.bytes ?? 0
  const aligned = bytes.byteOffset % size === 0 ? bytes : bytes.slice()
  if (size === 4) return new Uint32Array(aligned.buffer, aligned.byteOffset, aligned.length / 4)
  return new Uint16Array(aligned.buffer, aligned.byteOffset, aligned.length / 2)
}

/** No adapter of this rank, in its widest dtype, has a larger weights file: a bound that is checked before reading. */
export function maxWeightsBytes(layout: BaseLayout, maxRank: number): number {
  const perLayer = layout.modules.reduce((sum, { inFeatures, outFeatures }) => sum + inFeatures + outFeatures, 0)
  const headerAllowance = 4 * 1024 * 1024
  return headerAllowance + 4 * layout.layerCount * maxRank * perLayer
}
