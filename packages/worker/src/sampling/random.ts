const MASK_64 = 0xffff_ffff_ffff_ffffn
/** 2^64 divided by the golden ratio, made odd: the distance between two states. */
const GAMMA = 0x9e37_79b9_7f4a_7c15n

/**
 * The n-th output of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014) for a
 * seed of 64 bits. It is a function of seed and count, so a generation can be taken up again at any token and is not moved by
 * what else is in the batch.
 * @param count 0-based
 */
export function splitMix64(seed: bigint, count: number): bigint {
  let state = (seed + GAMMA * (BigInt(count) + 1n)) & MASK_64
  state = ((state ^ (state >> 30n)) * 0xbf58_476d_1ce4_e5b9n) & MASK_64
  state = ((state ^ (state >> 27n)) * 0x94d0_49bb_1331_11ebn) & MASK_64
  return state ^ (state >> 31n)
}

/** A number in [0, 1), of 53 random bits. */
export function uniform(seed: bigint, count: number): number {
  return Number(splitMix64(seed, count) >> 11n) * 2 ** -53
}
