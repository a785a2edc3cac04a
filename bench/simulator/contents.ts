/** What stands for the weights of adapters in a simulated world: few bytes, but bytes that have their digest or not. */
import { createHash } from 'node:crypto'
import type { AdapterDigest } from '@quiver/protocol'
import { adapterDigest, adapterText } from './workload.ts'

/** The text that a digest is of, as its codes. Never changed in place: what is damaged is another array. */
export type Content = Uint16Array<ArrayBuffer>

export class Contents {
  readonly #byDigest = new Map<AdapterDigest, Content>()
  readonly #digests = new WeakMap<Content, AdapterDigest>()

  /** The digest of an adapter that origins have from now on. */
  add(index: number): AdapterDigest {
    const digest = adapterDigest(index)
    if (!this.#byDigest.has(digest)) this.#byDigest.set(digest, Uint16Array.from(Buffer.from(adapterText(index))))
    return digest
  }

  /** As the origin has it. */
  of(digest: AdapterDigest): Content {
    const content = this.#byDigest.get(digest)
    if (content === undefined) throw new Error(`no origin has ${digest}`)
    return content
  }

  /** The same with one bit flipped. */
  damaged(content: Content): Content {
    const copy = content.slice()
    copy[0] = (copy[0] ?? 0) ^ 1
    return copy
  }

  digestOf(content: Content): AdapterDigest {
    const known = this.#digests.get(content)
    if (known !== undefined) return known
    const digest = createHash('sha256').update(Buffer.from(content)).digest('hex') as AdapterDigest
    this.#digests.set(content, digest)
    return digest
  }
}
