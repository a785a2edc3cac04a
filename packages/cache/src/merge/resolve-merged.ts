import { type AdapterDigest, type MemberRef, type MergedRef, memberName } from '@quiver/protocol'
import { memberFailure } from './member-sources.ts'
import { type MergeMember, type MergeRecipe, mergedDigest } from './merge-recipe.ts'

export interface ResolvedMerge {
  readonly digest: AdapterDigest
  /** The members' names, joined by commas. */
  readonly name: string
  readonly recipe: MergeRecipe
}

/**
 * Which weights a merged reference means now. Asks for one member after the other, so that of several that fail the first in
 * the request's order is named.
 * @throws ServingError what `resolveMember` throws, naming the member
 */
export async function resolveMerged(
  { members: wanted, strategy, density, sign }: MergedRef,
  resolveMember: (ref: MemberRef) => Promise<{ readonly digest: AdapterDigest; readonly name: string }>,
): Promise<ResolvedMerge> {
  const members: MergeMember[] = []
  for (const { ref, weight } of wanted) {
    try {
      const { digest, name } = await resolveMember(ref)
      members.push({ digest, name, weight })
    } catch (thrown) {
      throw memberFailure({ name: memberName(ref) }, thrown)
    }
  }
  const recipe = { members, strategy, density, sign }
  return { digest: mergedDigest(recipe), name: members.map(({ name }) => name).join(','), recipe }
}
