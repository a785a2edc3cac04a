import { ServingError } from '@quiver/protocol'

const MAX_KEY_BYTES = 1024
const MAX_SEGMENT_BYTES = 200
/** Letters, digits and signs that are safe in a file name, a URL path and a log line alike. */
const SEGMENT = /^[A-Za-z0-9_=@+,!()-][A-Za-z0-9_.=@+,!()-]*$/

/**
 * Keys that every store can have: segments joined by `/`, each of letters, digits and `_ . = @ + , ! ( ) -`, none
 * starting with a point (so there is no `..` and no hidden file), together at most 1,024 characters.
 */
export function isStoreKey(key: string): boolean {
  return (
    key.length <= MAX_KEY_BYTES && key.split('/').every((segment) => segment.length <= MAX_SEGMENT_BYTES && SEGMENT.test(segment))
  )
}

/** @throws ServingError `invalid_request` for a key that `isStoreKey` refuses */
export function checkStoreKey(key: string): void {
  if (!isStoreKey(key))
    throw new ServingError('invalid_request', `${JSON.stringify(key.slice(0, 120))} is not a key of an object store`)
}
