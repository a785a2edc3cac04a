import { ServingError } from '@quiver/protocol'

/** At most this many reasons are spelled out in one message; the rest are counted. */
const REASONS_SHOWN = 12
/** Longest excerpt of a name or text from an untrusted file that a message repeats. */
const QUOTED_CHARACTERS = 120

/** A refusal of an adapter's files. All of them share one code, so that callers need not know which rule was broken. */
export function adapterInvalid(reason: string): ServingError {
  return new ServingError('adapter_invalid', reason)
}

/** Text from an untrusted file, fit for a message: quoted, escaped and cut. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > QUOTED_CHARACTERS ? `${text.slice(0, QUOTED_CHARACTERS)}…` : text)
}

/**
 * Collects every reason against an adapter, so that a publisher can mend all of them at once.
 * @example const problems = new Problems(); problems.add('r must be at least 1'); problems.throwIfAny()
 */
export class Problems {
  readonly #reasons: string[] = []
  #count = 0

  get count(): number {
    return this.#count
  }

  add(reason: string): void {
    this.#count += 1
    if (this.#reasons.length < REASONS_SHOWN) this.#reasons.push(reason)
  }

  /**
   * @param why said before the reasons, where they have one cause
   * @throws ServingError `adapter_invalid` with all reasons, joined by "; "
   */
  throwIfAny(why?: string): void {
    if (this.#count === 0) return
    const more = this.#count - this.#reasons.length
    const reasons = this.#reasons.join('; ') + (more > 0 ? `; and ${more} more` : '')
    throw adapterInvalid(why === undefined ? reasons : `${why}: ${reasons}`)
  }
}
