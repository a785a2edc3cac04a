import { ServingError } from './errors.ts'

declare const brand: unique symbol
export type Branded<T, B extends string> = T & { readonly [brand]: B }

/** What tenants say; may be re-pointed to another version at any time. Never a key of a cache and never part of a path. */
export type AdapterName = Branded<string, 'AdapterName'>
/** sha256 hex of an adapter's canonical content: the only key under which weights are kept anywhere. */
export type AdapterDigest = Branded<string, 'AdapterDigest'>
/** A fixed place for one adapter in device memory, 0 … slots−1. */
export type SlotIndex = Branded<number, 'SlotIndex'>
/** One running or waiting generation inside one worker; never reused while the worker lives. */
export type SequenceId = Branded<number, 'SequenceId'>

/** The slot of rows that use the base model alone. */
export const BASE_SLOT = -1 as SlotIndex

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*(\/[A-Za-z0-9][A-Za-z0-9._-]*)*$/
const MAX_NAME_LENGTH = 128

/**
 * Accepts `org/name`-like names: letters, digits, `.`, `_`, `-`, segments separated by `/`, at most 128 characters.
 * @throws ServingError `invalid_request`
 * @example parseAdapterName('acme/support-json')
 */
export function parseAdapterName(text: string): AdapterName {
  if (text.length > MAX_NAME_LENGTH || !NAME.test(text) || text.includes('..')) {
    throw new ServingError(
      'invalid_request',
      `adapter name ${JSON.stringify(text.slice(0, 80))} is not valid: use letters, digits, ".", "_", "-" and "/", ` +
        `starting with a letter or digit, at most ${MAX_NAME_LENGTH} characters`,
    )
  }
  return text as AdapterName
}

/**
 * @throws ServingError `invalid_request` unless `text` is 64 lower-case hex digits
 * @example parseAdapterDigest('9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08')
 */
export function parseAdapterDigest(text: string): AdapterDigest {
  if (!/^[0-9a-f]{64}$/.test(text)) {
    throw new ServingError('invalid_request', `${JSON.stringify(text.slice(0, 80))} is not a sha256 digest of 64 hex digits`)
  }
  return text as AdapterDigest
}
