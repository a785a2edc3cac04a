/** Numbers in [0, 1), the same for the same seed. */
export type Random = () => number

/** mulberry32: 32 bits of state, plenty for weights and orders that only have to differ. */
export function seededRandom(seed: number): Random {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** A whole number, 0 … below − 1. */
export function drawBelow(random: Random, below: number): number {
  return Math.floor(random() * below)
}

/** The same things in an order drawn anew (Fisher and Yates). */
export function shuffled<T>(things: readonly T[], random: Random): T[] {
  const left = [...things]
  return things.flatMap(() => left.splice(drawBelow(random, left.length), 1))
}
