import { ServingError } from '@quiver/protocol'

const FIRST_CAPACITY = 16 * 1024

/** Bytes that arrive in pieces, kept in one buffer up to a bound. */
export class GrowingBuffer {
  readonly #maxBytes: number
  readonly #what: string
  #buffer = new Uint8Array(0)
  #length = 0

  /** @param what is named when there are too many bytes */
  constructor(maxBytes: number, what: string) {
    this.#maxBytes = maxBytes
    this.#what = what
  }

  /** @throws ServingError `too_large` */
  append(chunk: Uint8Array): void {
    const length = this.#length + chunk.length
    if (length > this.#maxBytes) throw tooLong(this.#what, this.#maxBytes)
    if (length > this.#buffer.length) {
      const larger = new Uint8Array(Math.min(this.#maxBytes, Math.max(FIRST_CAPACITY, this.#buffer.length * 2, length)))
      larger.set(this.#buffer.subarray(0, this.#length))
      this.#buffer = larger
    }
    this.#buffer.set(chunk, this.#length)
    this.#length = length
  }

  /** What has arrived; no copy. */
  bytes(): Uint8Array<ArrayBuffer> {
    return this.#buffer.subarray(0, this.#length)
  }
}

export function tooLong(what: string, maxBytes: number): ServingError {
  return new ServingError('too_large', `${what} has more than the ${maxBytes} bytes that are accepted here`)
}
