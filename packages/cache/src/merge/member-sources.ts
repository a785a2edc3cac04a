import { type AdapterDigest, ServingError, toServingError } from '@quiver/protocol'
import { quoted } from '../format/adapter-problem.ts'
import type { ValidAdapter } from '../format/validate.ts'
import { SingleFlight } from '../single-flight.ts'
import type { MergeMember, MergeRecipe } from './merge-recipe.ts'

/** Reads one adapter's own weights, in the precision in which they were published. */
export type ReadSource = (digest: AdapterDigest, signal: AbortSignal) => Promise<ValidAdapter>

/**
 * The members of merges. A merge needs their weights as published, not as packed: rounded twice they would not be PEFT's any
 * more. Merges that need one adapter at the same time share one reading, which is aborted when the last of them leaves.
 */
export class MemberSources {
  readonly #flights = new SingleFlight<AdapterDigest, ValidAdapter>()
  readonly #read: ReadSource

  constructor(read: ReadSource) {
    this.#read = read
  }

  /** Readings under way. */
  get size(): number {
    return this.#flights.size
  }

  /**
   * @returns the members' adapters in their order; one that comes twice is read once
   * @throws ServingError the first failure, saying which member by its place, or `client_closed` when `signal` is aborted
   */
  async readAll(members: readonly MergeMember[], signal: AbortSignal): Promise<readonly ValidAdapter[]> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const found = new Map<AdapterDigest, ValidAdapter>()
    const distinct = new Map(members.toReversed().map((member) => [member.digest, member]))
    const leave = Array.from(distinct, ([digest, member]) =>
      this.#flights.join(
        digest,
        (flightSignal) => this.#read(digest, flightSignal),
        (outcome) => {
          if (!outcome.ok) return reject(placedFailure(members.indexOf(member) + 1, outcome.reason))
          found.set(digest, outcome.value)
          if (found.size === distinct.size) resolve()
        },
      ),
    )
    const abort = () => reject(new ServingError('client_closed', 'the merge was cancelled'))
    signal.addEventListener('abort', abort, { once: true })
    if (signal.aborted) abort()
    try {
      await promise
    } finally {
      signal.removeEventListener('abort', abort)
      for (const end of leave) end()
    }
    return members.flatMap(({ digest }) => found.get(digest) ?? [])
  }
}

/** The member's failure under the member's name, for the one who named it. */
export function memberFailure({ name }: Pick<MergeMember, 'name'>, thrown: unknown): ServingError {
  return failureOf(quoted(name), thrown)
}

/**
 * The failure of a merge that is remembered for whoever merges the same weights. Another tenant may call them otherwise, and must not
 * learn how this one does, so it says a member's place.
 * @param place from 1
 */
function placedFailure(place: number, thrown: unknown): ServingError {
  return failureOf(placeOf(place), thrown, { member: place })
}

/** Such a failure in the names of one who asks for that merge; any other as it is. */
export function failureInNames(recipe: MergeRecipe | undefined, failure: ServingError): ServingError {
  const { member: place, ...context } = failure.context
  const member = typeof place === 'number' ? recipe?.members[place - 1] : undefined
  if (typeof place !== 'number' || member === undefined) return failure
  const text = failure.message.replace(placeOf(place), () => quoted(member.name))
  return new ServingError(failure.code, text, context, { cause: failure.cause })
}

function placeOf(place: number): string {
  return `member ${place} of the merge`
}

function failureOf(member: string, thrown: unknown, more: { readonly member?: number } = {}): ServingError {
  const { code, message, context } = toServingError(thrown)
  if (code === 'client_closed' || code === 'draining') return new ServingError(code, message, context, { cause: thrown })
  return new ServingError(code, `${member} cannot be merged: ${message}`, { ...context, ...more }, { cause: thrown })
}
