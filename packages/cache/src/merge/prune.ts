/** Taking values out of a tensor before it is merged: the smallest ones (TIES) or random ones (DARE). */
import type { Slices } from './slices.ts'

/** A float32's bits without its sign: as whole numbers they are ordered as the magnitudes are. */
const MAGNITUDE = 0x7fffffff
/** The magnitude's 31 bits, from the top, in the parts that are counted one after the other. */
const digits = [
  { shift: 20, count: 2048 },
  { shift: 10, count: 1024 },
  { shift: 0, count: 1024 },
] as const

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
 * The magnitude of the `kept`-th largest value, and how many of that very magnitude belong to the kept ones. Found digit by
 * digit: each pass counts the next digit of those that agree with the threshold so far. Three passes instead of a sort.
 */
async function findThreshold(
  bits: Uint32Array,
  kept: number,
  slices: Slices,
): Promise<{ readonly threshold: number; readonly equals: number }> {
  if (kept === 0) return { threshold: MAGNITUDE, equals: 0 }
  let threshold = 0
  let equals = kept
  let agreeing = 0
  for (const { shift, count } of digits) {
    const counts = new Uint32Array(count)
    const [fixed, wanted] = [agreeing, threshold]
    await slices.over(bits.length, 1, (from, to) => {
      for (let at = from; at < to; at++) {
        const word = bits[at] ?? 0
        if ((word & fixed) !== wanted) continue
        const digit = ((word & MAGNITUDE) >>> shift) & (count - 1)
        counts[digit] = (counts[digit] ?? 0) + 1
      }
    })
    const { bin, rest } = binOf(counts, equals)
    threshold |= bin << shift
    agreeing |= (count - 1) << shift
    equals = rest
  }
  return { threshold, equals }
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
