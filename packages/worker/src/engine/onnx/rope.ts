import { assertNever } from '@quiver/protocol'
import type { ModelSpec } from '../../model/model-spec.ts'

/**
 * Cosines and sines of the rotary position embedding (Su et al., RoFormer, 2021), [positions, headDim/2] each, with the
 * model's scaling folded into the frequencies.
 */
export function rotaryCaches(
  spec: ModelSpec,
  positions: number,
): { cos: Float32Array<ArrayBuffer>; sin: Float32Array<ArrayBuffer> } {
  const half = spec.headDim / 2
  const frequencies = rotaryFrequencies(spec)
  const cos = new Float32Array(positions * half)
  const sin = new Float32Array(positions * half)
  for (let position = 0; position < positions; position += 1) {
    for (let i = 0; i < half; i += 1) {
      const angle = position * (frequencies[i] as number)
      cos[position * half + i] = Math.cos(angle)
      sin[position * half + i] = Math.sin(angle)
    }
  }
  return { cos, sin }
}

/** Angle per position of each pair of dimensions, [headDim/2], in float32 as transformers computes it. */
export function rotaryFrequencies(spec: ModelSpec): Float32Array {
  const half = spec.headDim / 2
  return Float32Array.from({ length: half }, (_, i) => scaled(spec, Math.fround(spec.ropeTheta ** (-i / half)), i))
}

/** llama3: transformers' `_compute_llama3_parameters`: long wavelengths are stretched, short ones kept, a ramp between. */
function scaled(spec: ModelSpec, frequency: number, index: number): number {
  const scaling = spec.ropeScaling
  switch (scaling.type) {
    case 'none':
      return frequency
    case 'linear':
      return frequency / scaling.factor
    case 'llama3': {
      const wavelength = (2 * Math.PI) / frequency
      const long = scaling.originalMaxPositions / scaling.lowFreqFactor
      const short = scaling.originalMaxPositions / scaling.highFreqFactor
      if (wavelength < short) return frequency
      if (wavelength > long) return frequency / scaling.factor
      const ramp =
        (scaling.originalMaxPositions / wavelength - scaling.lowFreqFactor) / (scaling.highFreqFactor - scaling.lowFreqFactor)
      return (1 - ramp) * (frequency / scaling.factor) + ramp * frequency
    }
    case 'factors':
      return frequency / (scaling.factors[index] ?? 1)
    default:
      return assertNever(scaling)
  }
}
