/** Work that is long for long texts, cut into slices: it yields where others may have a turn of the event loop. */
import { nextTurn } from '@quiver/cache'

export type Slices<T> = Generator<undefined, T, undefined>

/** Characters, or tokens, that one slice is about: some milliseconds. */
export const SLICE_LENGTH = 4096

/** All slices at once. */
export function atOnce<T>(work: Slices<T>): T {
  for (;;) {
    const { done, value } = work.next()
    if (done === true) return value
  }
}

/**
 * A slice in each turn. What is short is done before this returns its promise.
 * @throws the signal's reason when it is aborted between two slices, or what the work throws
 */
export async function inTurns<T>(work: Slices<T>, signal?: AbortSignal): Promise<T> {
  for (;;) {
    const { done, value } = work.next()
    if (done === true) return value
    await nextTurn()
    signal?.throwIfAborted()
  }
}
