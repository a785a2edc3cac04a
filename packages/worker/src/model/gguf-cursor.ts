import { createHash } from 'node:crypto'
import { ServingError } from '@quiver/protocol'

/** Thrown by the cursor when the bytes read so far end before the header does. */
export class NeedMoreBytes extends Error {}

/** A refusal that names the file and what is wrong in it. */
export function damaged(path: string, what: string): ServingError {
  return new ServingError('invalid_request', `${path} is not a readable GGUF file: ${what}`)
}

/** Reads little-endian values one after the other; knows where the file ends. */
export class HeaderCursor {
  readonly path: string
  readonly fileBytes: number
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer, fileBytes: number, path: string) {
    this.#bytes = bytes
    this.fileBytes = fileBytes
    this.path = path
  }

  get position(): number {
    return this.#at
  }

  sha256(): string {
    return createHash('sha256').update(this.#bytes.subarray(0, this.#at)).digest('hex')
  }

  /** Moves over `length` bytes and returns where they start. */
  take(length: number, what: string): number {
    if (length > this.fileBytes - this.#at) {
      throw damaged(this.path, `it ends at byte ${this.fileBytes}, inside ${what}`)
    }
    if (this.#at + length > this.#bytes.length) throw new NeedMoreBytes()
    const start = this.#at
    this.#at += length
    return start
  }

  u8 = (what: string): number => this.#bytes.readUInt8(this.take(1, what))
  i8 = (what: string): number => this.#bytes.readInt8(this.take(1, what))
  u16 = (what: string): number => this.#bytes.readUInt16LE(this.take(2, what))
  i16 = (what: string): number => this.#bytes.readInt16LE(this.take(2, what))
  u32 = (what: string): number => this.#bytes.readUInt32LE(this.take(4, what))
  i32 = (what: string): number => this.#bytes.readInt32LE(this.take(4, what))
  u64 = (what: string): bigint => this.#bytes.readBigUInt64LE(this.take(8, what))
  i64 = (what: string): bigint => this.#bytes.readBigInt64LE(this.take(8, what))
  f32 = (what: string): number => this.#bytes.readFloatLE(this.take(4, what))
  f64 = (what: string): number => this.#bytes.readDoubleLE(this.take(8, what))

  /** A u64 that counts things of at least `leastBytes` each, so that more than the file can hold is refused at once. */
  count(what: string, leastBytes: number, most: number): number {
    const value = this.u64(what)
    if (value > BigInt(most)) throw damaged(this.path, `${what} is ${value}, more than ${most}`)
    if (Number(value) * leastBytes > this.fileBytes - this.#at) {
      throw damaged(this.path, `${what} is ${value}, more than the file's ${this.fileBytes} bytes can hold`)
    }
    return Number(value)
  }

  text(what: string, most: number): string {
    const length = this.count(`the length of ${what}`, 1, most)
    const start = this.take(length, what)
    return this.#bytes.toString('utf8', start, start + length)
  }
}
