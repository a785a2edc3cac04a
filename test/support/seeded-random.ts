/** The seed of every random test: from SEED where it is set, so that a failure can be repeated. */
export const seed: number = Number(process.env['SEED'] ?? 20261122)

/** mulberry32, numbers in [0, 1): 32 bits of state, good enough to scatter faults. */
export function makeRandom(from: number = seed): () => number {
  let state = from
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
