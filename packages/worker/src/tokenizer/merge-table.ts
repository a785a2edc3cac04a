import { ServingError } from '@quiver/protocol'

/** Which two tokens merge into which, and which merge goes first. Ranks and ids are below 2^31. */
export interface MergeTable {
  /** @returns the position of the pair for `rankAt` and `mergedAt`, -1 where the two do not merge */
  find(left: number, right: number): number
  /** Order of the merge: the lowest goes first. */
  rankAt(position: number): number
  /** The token that the pair becomes. */
  mergedAt(position: number): number
}

const EMPTY = -1

function hashPair(left: number, right: number): number {
  const mixed = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b)
  return mixed ^ (mixed >>> 15)
}

/**
 * An open-addressing table over typed arrays: a prompt asks it several times per byte, and a Map would want a new text or a
 * boxed number as key for each of them.
 * @param merges the two halves of each merge, best first
 * @throws ServingError `invalid_request` naming a merge whose halves or result are not in the vocabulary
 */
export function createMergeTable(
  merges: readonly (readonly [string, string])[],
  vocabulary: ReadonlyMap<string, number>,
): MergeTable {
  const capacity = 2 ** Math.ceil(Math.log2(Math.max(merges.length * 2, 2)))
  const mask = capacity - 1
  const lefts = new Int32Array(capacity).fill(EMPTY)
  const rights = new Int32Array(capacity)
  const ranks = new Int32Array(capacity)
  const results = new Int32Array(capacity)

  const locate = (left: number, right: number): number => {
    let position = hashPair(left, right) & mask
    while (lefts[position] !== EMPTY && (lefts[position] !== left || rights[position] !== right)) {
      position = (position + 1) & mask
    }
    return position
  }
  const idOf = (token: string, rank: number): number => {
    const id = vocabulary.get(token)
    if (id !== undefined) return id
    throw new ServingError(
      'invalid_request',
      `the tokenizer is damaged: merge ${rank} needs ${JSON.stringify(token)}, which is not in the vocabulary`,
    )
  }

  for (const [rank, [left, right]] of merges.entries()) {
    const leftId = idOf(left, rank)
    const rightId = idOf(right, rank)
    const position = locate(leftId, rightId)
    lefts[position] = leftId
    rights[position] = rightId
    ranks[position] = rank
    results[position] = idOf(left + right, rank)
  }

  return {
    find: (left, right) => {
      const position = locate(left, right)
      return lefts[position] === EMPTY ? -1 : position
    },
    rankAt: (position) => ranks[position] ?? 0,
    mergedAt: (position) => results[position] ?? 0,
  }
}
