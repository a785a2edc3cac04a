/**
 * What a merged adapter is made of, and its identity. Two requests that must give the same weights have the same digest:
 *
 *   digest = sha256("quiver-merge-1\n" + JSON.stringify([pruning, density, sign, [[digest, weight], …]]))
 *
 * with the method as `methodOf` gives it, and null for no election of signs. Names are left out; the order of the members counts, because sums
 * of floats and the random choices of DARE depend on it. The version grows when the mathematics changes in any bit.
 */
import { createHash } from 'node:crypto'
import { type AdapterDigest, type MajoritySign, type MergeStrategy, parseAdapterDigest } from '@quiver/protocol'

const VERSION = 'quiver-merge-1'

export interface MergeMember {
  readonly digest: AdapterDigest
  /** As the request said it. */
  readonly name: string
  /** Any finite number; a negative one takes the adapter's effect away. */
  readonly weight: number
}

export interface MergeRecipe {
  readonly members: readonly MergeMember[]
  readonly strategy: MergeStrategy
  /** Share of values kept, above 0 and at most 1. */
  readonly density: number
  readonly sign: MajoritySign
}

/** What decides the mathematics of a recipe: fields without effect have one fixed value. */
export interface MergeMethod {
  /** What is taken away from each member before the merge. */
  readonly pruning: 'none' | 'smallest' | 'random'
  /** 1 where nothing is pruned. */
  readonly density: number
  /** Absent: members are added up, without an election of signs. */
  readonly sign: MajoritySign | undefined
}

/** One member alone is always merged linearly, as PEFT does it: there is nothing that it could disagree with. */
export function methodOf({ strategy, density, sign, members }: MergeRecipe): MergeMethod {
  if (strategy === 'linear' || members.length === 1) return { pruning: 'none', density: 1, sign: undefined }
  const electsSign = strategy === 'ties' || strategy === 'dare_ties'
  return {
    pruning: density === 1 ? 'none' : strategy === 'ties' ? 'smallest' : 'random',
    density,
    sign: electsSign ? sign : undefined,
  }
}

/** The digest under which the merged adapter is kept in every tier. */
export function mergedDigest(recipe: MergeRecipe): AdapterDigest {
  const { pruning, density, sign } = methodOf(recipe)
  const members = recipe.members.map(({ digest, weight }) => [digest, weight])
  const canonical = JSON.stringify([pruning, density, sign ?? null, members])
  return parseAdapterDigest(createHash('sha256').update(`${VERSION}\n${canonical}`).digest('hex'))
}
