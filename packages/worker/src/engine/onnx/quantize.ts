/**
 * Block-wise weight quantisation for MatMulNBits (com.microsoft operator documentation): a weight [N, K] is cut along K
 * into blocks of 32, each with its own scale, packed as [N, blocks, 32·bits/8] with the lower element in the lower bits.
 */
export const BLOCK = 32

export interface QuantizedWeight {
  readonly bits: 4 | 8
  /** [N, blocks, 32·bits/8] */
  readonly packed: Uint8Array<ArrayBuffer>
  /** [N, blocks] */
  readonly scales: Float32Array<ArrayBuffer>
  /** 4 bits only: [N, ⌈blocks/2⌉], two to a byte. 8 bits are symmetric around 128. */
  readonly zeroPoints?: Uint8Array<ArrayBuffer>
}

/**
 * 8 bits, symmetric: w ≈ scale·(q − 128), scale = max|w| / 127.
 * @param weight [n, k] row-major
 * @example quantize8(new Float32Array(64 * 576), 64, 576)
 */
export function quantize8(weight: Float32Array, n: number, k: number): QuantizedWeight {
  const blocks = Math.ceil(k / BLOCK)
  const packed = new Uint8Array(n * blocks * BLOCK).fill(128)
  const scales = new Float32Array(n * blocks)
  for (let block = 0; block < n * blocks; block += 1) {
    const { start, end } = blockRange(block, blocks, k)
    let largest = 0
    for (let i = start; i < end; i += 1) largest = Math.max(largest, Math.abs(weight[i] as number))
    const scale = largest / 127
    scales[block] = scale
    const inverse = scale === 0 ? 0 : 1 / scale
    const target = block * BLOCK
    for (let i = start; i < end; i += 1) packed[target + i - start] = Math.round((weight[i] as number) * inverse) + 128
  }
  return { bits: 8, packed, scales }
}

/**
 * 4 bits with a zero point: w ≈ scale·(q − zero), the block's range stretched over 0 … 15 and always holding 0.
 * @param weight [n, k] row-major
 * @example quantize4(new Float32Array(64 * 576), 64, 576)
 */
export function quantize4(weight: Float32Array, n: number, k: number): QuantizedWeight {
  const blocks = Math.ceil(k / BLOCK)
  const packed = new Uint8Array((n * blocks * BLOCK) / 2)
  const scales = new Float32Array(n * blocks)
  const zeroBytes = Math.ceil(blocks / 2)
  const zeroPoints = new Uint8Array(n * zeroBytes)
  for (let block = 0; block < n * blocks; block += 1) {
    const { start, end } = blockRange(block, blocks, k)
    let low = 0
    let high = 0
    for (let i = start; i < end; i += 1) {
      low = Math.min(low, weight[i] as number)
      high = Math.max(high, weight[i] as number)
    }
    const scale = (high - low) / 15
    const inverse = scale === 0 ? 0 : 1 / scale
    const zero = Math.round(-low * inverse)
    scales[block] = scale
    const column = block % blocks
    const zeroAt = Math.floor(block / blocks) * zeroBytes + (column >> 1)
    zeroPoints[zeroAt] = (zeroPoints[zeroAt] as number) | (zero << ((column & 1) * 4))
    for (let i = 0; i < BLOCK; i += 1) {
      const value = start + i < end ? (weight[start + i] as number) : 0
      const quantized = Math.min(15, Math.max(0, Math.round(value * inverse) + zero))
      const target = (block * BLOCK + i) >> 1
      packed[target] = (packed[target] as number) | (quantized << ((i & 1) * 4))
    }
  }
  return { bits: 4, packed, scales, zeroPoints }
}

function blockRange(block: number, blocks: number, k: number): { start: number; end: number } {
  const row = Math.floor(block / blocks)
  const column = (block % blocks) * BLOCK
  return { start: row * k + column, end: row * k + Math.min(column + BLOCK, k) }
}
