import { readBf16, readF16 } from '../format/half.ts'
import type { TensorView } from '../format/safetensors.ts'
import { type AdapterPair, elementBits } from '../format/validate.ts'
import type { Slices } from './slices.ts'

/** One side of a pair in float32, as [rank, features] row-major: A as it is, B transposed. A fresh copy; no scale applied. */
export async function memberTensor(pair: AdapterPair, side: 'A' | 'B', slices: Slices): Promise<Float32Array<ArrayBuffer>> {
  const { a, b, rank, module } = pair
  return side === 'A' ? await readFloats(a, slices) : await readTransposed(b, { rank, columns: module.outFeatures }, slices)
}

async function readFloats(tensor: TensorView, slices: Slices): Promise<Float32Array<ArrayBuffer>> {
  const bits = elementBits(tensor)
  const floats = new Float32Array(bits.length)
  await slices.over(bits.length, 1, (from, to) => convert(tensor, bits, { from, to }, floats.subarray(from, to)))
  return floats
}

async function readTransposed(
  tensor: TensorView,
  { rank, columns }: { readonly rank: number; readonly columns: number },
  slices: Slices,
): Promise<Float32Array<ArrayBuffer>> {
  const bits = elementBits(tensor)
  const transposed = new Float32Array(bits.length)
  await slices.over(columns, rank, (first, end) => {
    const rows = new Float32Array((end - first) * rank)
    convert(tensor, bits, { from: first * rank, to: end * rank }, rows)
    for (let column = first; column < end; column++) {
      for (let r = 0; r < rank; r++) transposed[r * columns + column] = rows[(column - first) * rank + r] ?? 0
    }
  })
  return transposed
}

function convert(
  { dtype }: TensorView,
  bits: Uint32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>,
  { from, to }: { readonly from: number; readonly to: number },
  target: Float32Array,
): void {
  if (bits instanceof Uint32Array) target.set(new Float32Array(bits.buffer, bits.byteOffset, bits.length).subarray(from, to))
  else if (dtype === 'F16') readF16(bits.subarray(from, to), target)
  else readBf16(bits.subarray(from, to), target)
}
