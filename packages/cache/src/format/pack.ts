import type { AdapterDigest, BaseLayout } from '@quiver/protocol'
import { nextTurn } from '../turns.ts'
import { adapterInvalid, quoted } from './adapter-problem.ts'
import { BF16_MAX, F16_MAX, f32Exponent, firstNotFinite, readBf16, readF16, writeBf16, writeF16 } from './half.ts'
import type { PackedAdapter, PackedArray, PackedDtype } from './packed-adapter.ts'
import { draftPacked } from './packed-file.ts'
import type { TensorView } from './safetensors.ts'
import { type AdapterPair, elementBits, type ValidAdapter } from './validate.ts'

/** Elements converted before the event loop gets a turn: half a millisecond of work, several before the code is compiled. */
const ELEMENTS_PER_TURN = 50_000

export interface PackedFile {
  /** What the disk tier writes; `adapter` is views over it. */
  readonly file: Uint8Array<ArrayBuffer>
  readonly adapter: PackedAdapter
}

export interface PackTarget {
  readonly digest: AdapterDigest
  readonly layout: BaseLayout
  readonly dtype: PackedDtype
}

/**
 * Turns a validated adapter into the engine's layout: A stays [rank, in], B [out, rank] becomes Bᵀ [rank, out] times the
 * scale. The product is rounded to float32, as PEFT computes it, and then to `dtype`, to nearest, ties to even.
 * @throws ServingError `adapter_invalid` when a value, after scaling, is beyond what 16 bits can hold (`f16`: ±65504): a saturated
 * weight would answer wrongly without a word
 */
export async function packAdapter(adapter: ValidAdapter, target: PackTarget): Promise<PackedFile> {
  const draft = draftPacked(target, adapter.pairs)
  let elements = 0
  for (const [index, pair] of adapter.pairs.entries()) {
    const packed = draft.adapter.modules[index]
    if (packed === undefined) throw new Error('a packed module for every pair')
    writeA(pair, packed.a, target.dtype)
    writeB(pair, packed.b, target.dtype)
    elements += packed.a.length + packed.b.length
    if (elements < ELEMENTS_PER_TURN) continue
    elements = 0
    await nextTurn()
  }
  await draft.seal()
  return { file: draft.file, adapter: draft.adapter }
}

function writeA({ a }: AdapterPair, target: PackedArray, dtype: PackedDtype): void {
  const bits = elementBits(a)
  // Equal formats are copied bit by bit; validation has ruled out NaN and infinity.
  if (a.dtype === dtype.toUpperCase() && target instanceof Uint16Array) target.set(bits)
  else if (target instanceof Float32Array) writeFloats(a, target)
  else writeRounded(floatsOf(a), { target, dtype, tensor: a, scale: 1 })
}

function writeB({ b, rank, module, scale }: AdapterPair, target: PackedArray, dtype: PackedDtype): void {
  const source = floatsOf(b)
  const transposed = target instanceof Float32Array ? target : new Float32Array(source.length)
  const columns = module.outFeatures
  for (let row = 0; row < columns; row++) {
    for (let r = 0; r < rank; r++) transposed[r * columns + row] = (source[row * rank + r] ?? 0) * scale
  }
  if (target instanceof Uint16Array) writeRounded(transposed, { target, dtype, tensor: b, scale })
  else refuseOverflow(transposed, b, scale)
}

interface Rounding {
  readonly target: Uint16Array
  readonly dtype: PackedDtype
  /** What is rounded, after it was multiplied by `scale`. */
  readonly tensor: TensorView
  readonly scale: number
}

function writeRounded(source: Float32Array, { target, dtype, tensor, scale }: Rounding): void {
  const index = dtype === 'bf16' ? writeBf16(source, target) : writeF16(source, target)
  if (index >= 0) throw tooLarge(tensor, scale, dtype === 'bf16' ? BF16_MAX : F16_MAX)
}

function refuseOverflow(values: Float32Array, tensor: TensorView, scale: number): void {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  if (firstNotFinite(bits, f32Exponent) >= 0) throw tooLarge(tensor, scale, 3.4e38)
}

function tooLarge(tensor: TensorView, scale: number, largest: number) {
  const scaled = scale === 1 ? '' : `, times the scale ${scale},`
  return adapterInvalid(
    `tensor ${quoted(tensor.name)} holds a value that${scaled} is beyond ±${largest}, the largest that can be served`,
  )
}

function floatsOf(tensor: TensorView): Float32Array<ArrayBuffer> {
  const bits = elementBits(tensor)
  if (bits instanceof Uint32Array) return new Float32Array(bits.buffer, bits.byteOffset, bits.length)
  const floats = new Float32Array(bits.length)
  if (tensor.dtype === 'F16') readF16(bits, floats)
  else readBf16(bits, floats)
  return floats
}

function writeFloats(tensor: TensorView, target: Float32Array): void {
  target.set(floatsOf(tensor))
}
