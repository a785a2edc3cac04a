/**
 * Which values DARE keeps. The choice is a pure function of the merged adapter's digest and of the place of the tensor, so the
 * same request has the same weights on every worker, after every eviction and restart.
 */
import { createHash } from 'node:crypto'
import type { AdapterDigest, ModuleName } from '@quiver/protocol'

/** One tensor of one member of a merge. */
export interface TensorPlace {
  readonly layer: number
  readonly module: ModuleName
  readonly side: 'A' | 'B'
  /** Position of the member in the request. */
  readonly member: number
}

/** Gives, for one tensor, a function that says of each of its values in turn ([rank, features] order) whether it is kept. */
export type DareMask = (place: TensorPlace) => () => boolean

/** @param density the probability with which a value is kept */
export function dareMask(digest: AdapterDigest, density: number): DareMask {
  const threshold = density * 2 ** 32
  return ({ layer, module, side, member }) => {
    const seed = createHash('sha256').update(`quiver-dare-1\n${digest}\n${layer}.${module}.${side}.${member}`).digest()
    const draw = sfc32(seed)
    return () => draw() < threshold
  }
}

/**
 * Chris Doty-Humphrey's "small fast counting" generator with 32-bit words (sfc32 of PractRand): whole numbers of 32 bits by
 * integer operations alone. Takes 12 bytes of the seed; the first 15 draws are thrown away to mix them.
 */
function sfc32(seed: Buffer): () => number {
  let [a, b, c, counter] = [seed.readUInt32LE(0), seed.readUInt32LE(4), seed.readUInt32LE(8), 1]
  const draw = (): number => {
    const result = (a + b + counter) >>> 0
    counter = (counter + 1) >>> 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (((c << 21) | (c >>> 11)) + result) | 0
    return result
  }
  for (let round = 0; round < 15; round++) draw()
  return draw
}
