import { readFileSync, statSync } from 'node:fs'
import { type Logger, ServingError, toServingError } from '@quiver/protocol'
import { type ApiKey, type KnownKey, knownKeys, matchKey } from './api-key.ts'
import { decodeKeys, readFailure } from './keys-file.ts'

/**
 * The keys that are in force: those of a file, which is looked at again for every request, so that a key that was revoked is wrong
 * from the next request on. Without the file no key is right. A file that has become unreadable changes nothing and is logged, since
 * one slip of an editor would otherwise lock everybody out.
 *
 * Looking is one synchronous `stat` of a local file, some microseconds: a request that waited for it would already be in nobody's
 * care if its client left meanwhile.
 */
export class Keyring {
  readonly #file: string
  readonly #log: Logger
  #keys: readonly KnownKey[]
  /** Which state of the file `#keys` is of. */
  #seen: string

  private constructor(file: string, log: Logger) {
    this.#file = file
    this.#log = log
    this.#seen = stateOf(file)
    this.#keys = load(file)
  }

  /** @throws ServingError `not_found` or `invalid_request` when the file cannot be used */
  static open(file: string, log: Logger): Keyring {
    return new Keyring(file, log)
  }

  /** The key that was shown, if it is in force now. */
  identify(secret: string): ApiKey | undefined {
    this.#refresh()
    return matchKey(this.#keys, secret)
  }

  #refresh(): void {
    const state = stateOf(this.#file)
    if (state === this.#seen) return
    // Noted first: what is wrong with one state of the file is said once.
    this.#seen = state
    try {
      this.#keys = load(this.#file)
    } catch (thrown) {
      const error = toServingError(thrown)
      if (error.code === 'not_found') this.#keys = []
      this.#log('error', error.code === 'not_found' ? 'the keys file is gone: no API key is right now' : error.message, {
        code: error.code,
      })
    }
  }
}

/** Differs when the file was replaced, written or removed. */
function stateOf(file: string): string {
  const found = statSync(file, { bigint: true, throwIfNoEntry: false })
  return found === undefined ? 'gone' : [found.ino, found.size, found.mtimeNs, found.ctimeNs].join(' ')
}

function load(file: string): readonly KnownKey[] {
  try {
    return knownKeys(decodeKeys(readFileSync(file, 'utf8'), file))
  } catch (error) {
    throw error instanceof ServingError ? error : readFailure(error, file)
  }
}
