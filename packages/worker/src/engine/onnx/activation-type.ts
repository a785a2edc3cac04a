import { writeBf16, writeF16 } from '@quiver/cache/format'
import { type Dtype, ServingError } from '@quiver/protocol'

/** Element types that a graph's rows, its norms and its products may have. */
export type ActivationType = 'f32' | 'f16' | 'bf16'

/** What the rows of a graph are in. Quantised weights are multiplied with float32. */
export function activationType(dtype: Dtype): ActivationType {
  if (dtype === 'fp16') return 'f16'
  return dtype === 'bf16' ? 'bf16' : 'f32'
}

/** `to` of the operator Cast. */
export const castTo = { f32: 1, f16: 10, bf16: 16 } as const satisfies Record<ActivationType, number>

/**
 * Rounds to nearest, ties to even.
 * @throws ServingError `invalid_request` when a value is beyond what the type holds
 */
export function activations(
  name: string,
  values: Float32Array<ArrayBuffer>,
  type: ActivationType,
): Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer> {
  if (type === 'f32') return values
  const rounded = new Uint16Array(values.length)
  if ((type === 'bf16' ? writeBf16(values, rounded) : writeF16(values, rounded)) < 0) return rounded
  const advice = type === 'f16' ? 'beyond ±65504: start with --dtype bf16' : 'that is not finite'
  throw new ServingError('invalid_request', `the weight ${name} holds a value ${advice}`)
}
