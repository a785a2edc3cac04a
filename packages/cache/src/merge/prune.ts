/** Taking values out of a tensor before it is merged: the smallest ones (TIES) or random ones (DARE). */
import type { Slices } from './slices.ts'

/** A float32's bits without its sign: as whole numbers they are ordered as the magnitudes are. */
const MAGNITUDE = 0x7fffffff
const LOW_BITS = 15
const LOW_MASK = (1 << LOW_BITS) - 1

/**
 * Sets all but the ⌊density·n⌋ values of largest magnitude to 0; among equals the first ones stay. As `topk` of PyTorch,
 * which leaves it open which of equal values it takes.
 * @param density above 0, below 1
 * @returns how many values are kept
 */
export async function keepLargest(values: Float32Array<ArrayBuffer>, density: number, slices: Slices): Promise<number> {
  const kept = Math.floor(density * values.length)
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  const { threshold, equals } = await findThreshold(bits, kept, slices)
  let equalsLeft = equals
  await slices.over(bits.length, 1, (from, to) => {
    for (let at = from; at < to; at++) {
      const magnitude = (bits[at] ?? 0) & MAGNITUDE
      if (magnitude > threshold) continue
      if (magnitude === threshold && equalsLeft > 0) equalsLeft -= 1
      else bits[at] = 0
    }
  })
  return kept
}

/**
 * The magnitude of the `kept`-th largest value, and how many of that very magnitude belong to the kept ones. Two
 * counting passes, over the upper 16 bits and over the lower 15, instead of a sort.
 */
async function findThreshold(
  bits: Uint32Array,
  kept: number,
  slices: Slices,
): Promise<{ readonly threshold: number; readonly equals: number }> {
  if (kept === 0) return { threshold: MAGNITUDE, equals: 0 }
  const upper = new Uint32Array(1 << 16)
  await slices.over(bits.length, 1, (from, to) => {
    for (let at = from; at < to; at++) {
      const bin = ((bits[at] ?? 0) & MAGNITUDE) >>> LOW_BITS
      upper[bin] = (upper[bin] ?? 0) + 1
    }
  })
  const high = binOf(upper, kept)
  const lower = new Uint32Array(1 << LOW_BITS)
  await slices.over(bits.length, 1, (from, to) => {
    for (let at = from; at < to; at++) {
      const magnitude = (bits[at] ?? 0) & MAGNITUDE
      if (magnitude >>> LOW_BITS !== high.bin) continue
      const bin = magnitude & LOW_MASK
      lower[bin] = (lower[bin] ?? 0) + 1
    }
  })
  const low = binOf(lower, high.rest)
  return { threshold: (high.bin << LOW_BITS) | low.bin, equals: low.rest }
}

/** The bin, counted from the top, that holds the `wanted`-th element, and which of the bin's elements that is. */
function binOf(counts: Uint32Array, wanted: number): { readonly bin: number; readonly rest: number } {
  let rest = wanted
  for (let bin = counts.length - 1; bin > 0; bin--) {
    const count = counts[bin] ?? 0
    if (count >= rest) return { bin, rest }
    rest -= count
  }
  return { bin: 0, rest }
}

/**
 * Sets values to 0 where `keeps` says no, and divides the others by `density`, so that the expectation stays.
 * @param keeps asked once for each value, in order
 */
export async function dropAtRandom(values: Float32Array, density: number, keeps: () => boolean, slices: Slices): Promise<void> {
  await slices.over(values.length, 1, (from, to) => {
    for (let at = from; at < to; at++) values[at] = keeps() ? (values[at] ?? 0) / density : 0
  })
}
