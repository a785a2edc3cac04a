/**
 * Weights of quiver::Product8 (kernels/operator/product_call.h): 8 bits in blocks of 32 along the inputs, each with a scale, laid out
 * as the kernels read them. Panels of 16 outputs hold units of 64 inputs:
 *
 *   [16 groups of 4 inputs][16 outputs][4 inputs] int8, then [2 blocks of 32 inputs][16 outputs] bfloat16 scales
 *
 * What lies past the last input or output is 0 with the scale 0.
 */
import { readBf16, writeBf16 } from '@quiver/cache/format'
import { ServingError } from '@quiver/protocol'

export const PANEL_OUTPUTS = 16
export const UNIT_INPUTS = 64
export const UNIT_BYTES = 1088

const BLOCK_INPUTS = 32
const MOST = 127
const BLOCK_BYTES = BLOCK_INPUTS * PANEL_OUTPUTS
const SCALES_OFFSET = UNIT_INPUTS * PANEL_OUTPUTS

/** @returns [panels, units, bytes of a unit] for a weight [outputs, inputs] */
export function packedShape(outputs: number, inputs: number): [number, number, number] {
  return [Math.ceil(outputs / PANEL_OUTPUTS), Math.ceil(inputs / UNIT_INPUTS), UNIT_BYTES]
}

/**
 * w ≈ scale · q, −127 ≤ q ≤ 127, scale = max|w| / 127 of the block, rounded to bfloat16 before q is chosen.
 * @param weight [outputs, inputs] row-major
 * @throws ServingError `invalid_request` when a weight is NaN or infinite
 * @example packProduct('lm_head', new Float32Array(64 * 576), 64, 576)
 */
export function packProduct(label: string, weight: Float32Array, outputs: number, inputs: number): Uint8Array<ArrayBuffer> {
  const [panels, units] = packedShape(outputs, inputs)
  const packed = new Uint8Array(panels * units * UNIT_BYTES)
  const values = new Int8Array(packed.buffer)
  const blocks = Math.ceil(inputs / BLOCK_INPUTS)
  const scales = blockScales(weight, outputs, inputs, blocks)
  const bits = new Uint16Array(scales.length)
  if (writeBf16(scales, bits) >= 0) {
    throw new ServingError('invalid_request', `the weight ${label} holds a value that is not finite`)
  }
  readBf16(bits, scales)
  for (let output = 0; output < outputs; output += 1) {
    const lane = output % PANEL_OUTPUTS
    const panel = ((output - lane) / PANEL_OUTPUTS) * units
    for (let block = 0; block < blocks; block += 1) {
      const unit = (panel + (block >> 1)) * UNIT_BYTES
      const scaleAt = unit + SCALES_OFFSET + ((block & 1) * PANEL_OUTPUTS + lane) * 2
      const word = bits[output * blocks + block] as number
      packed[scaleAt] = word & 255
      packed[scaleAt + 1] = word >> 8
      const scale = scales[output * blocks + block] as number
      const inverse = scale === 0 ? 0 : 1 / scale
      const start = block * BLOCK_INPUTS
      const end = Math.min(start + BLOCK_INPUTS, inputs)
      const base = unit + (block & 1) * BLOCK_BYTES + lane * 4
      for (let input = start; input < end; input += 1) {
        const within = input - start
        const rounded = Math.round((weight[output * inputs + input] as number) * inverse)
        // A scale that was rounded down would make the largest 127.2.
        values[base + (within >> 2) * PANEL_OUTPUTS * 4 + (within & 3)] = Math.max(-MOST, Math.min(MOST, rounded))
      }
    }
  }
  return packed
}

/** max|w| / 127 of every block, [outputs, blocks]; NaN where a weight is. */
function blockScales(weight: Float32Array, outputs: number, inputs: number, blocks: number): Float32Array {
  const scales = new Float32Array(outputs * blocks)
  for (let output = 0; output < outputs; output += 1) {
    for (let block = 0; block < blocks; block += 1) {
      const start = output * inputs + block * BLOCK_INPUTS
      const end = Math.min(start + BLOCK_INPUTS, (output + 1) * inputs)
      let largest = 0
      for (let i = start; i < end; i += 1) largest = Math.max(largest, Math.abs(weight[i] as number))
      scales[output * blocks + block] = largest / MOST
    }
  }
  return scales
}
