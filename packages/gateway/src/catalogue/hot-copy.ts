/**
 * Copies of the catalogue's objects that are faster to reach than the store, such as in Redis. A copy counts only for the very
 * etag that the store lists, so it can be old or gone but never wrong.
 */
export interface HotCopy {
  /**
   * The bytes of each object, in the order of asking; undefined where there is no copy with that etag.
   * @returns undefined when the copies cannot be reached now; never rejects
   */
  read(objects: readonly ObjectVersion[]): Promise<readonly (Uint8Array | undefined)[] | undefined>
  /** Keeps copies, or does not: nothing depends on it. Never rejects. */
  write(objects: readonly (ObjectVersion & { readonly bytes: Uint8Array })[]): Promise<void>
}

export interface ObjectVersion {
  readonly key: string
  readonly etag: string
}

/** Objects of one `read` or `write`. */
export const HOT_COPY_BATCH = 200

/** Copies in this process; for tests, and to say what a hot copy is. */
export class MemoryHotCopy implements HotCopy {
  readonly #copies = new Map<string, { readonly etag: string; readonly bytes: Uint8Array }>()

  async read(objects: readonly ObjectVersion[]): Promise<readonly (Uint8Array | undefined)[]> {
    return objects.map(({ key, etag }) => {
      const copy = this.#copies.get(key)
      return copy?.etag === etag ? copy.bytes : undefined
    })
  }

  async write(objects: readonly (ObjectVersion & { readonly bytes: Uint8Array })[]): Promise<void> {
    for (const { key, etag, bytes } of objects) this.#copies.set(key, { etag, bytes: bytes.slice() })
  }
}
