import type { GetOptions, ListOptions, ObjectEntry, ObjectStore, PutOptions, StoredObject } from '@quiver/cache/store'

export interface StoreHooks {
  /** Stands around each write: may fail before it, after it, or let others go first. */
  readonly put?: (key: string, write: () => Promise<{ readonly etag: string }>) => Promise<{ readonly etag: string }>
  readonly get?: (key: string, read: () => Promise<StoredObject>) => Promise<StoredObject>
  readonly delete?: (key: string, remove: () => Promise<void>) => Promise<void>
  /** Before the first key of each listing. */
  readonly list?: (prefix: string) => Promise<void>
}

/** Another store, with a test's hand in its calls. */
export class HookedStore implements ObjectStore {
  readonly #inner: ObjectStore
  readonly #hooks: StoreHooks

  constructor(inner: ObjectStore, hooks: StoreHooks) {
    this.#inner = inner
    this.#hooks = hooks
  }

  get(key: string, options?: GetOptions): Promise<StoredObject> {
    const read = () => this.#inner.get(key, options)
    return this.#hooks.get === undefined ? read() : this.#hooks.get(key, read)
  }

  head(key: string): Promise<ObjectEntry> {
    return this.#inner.head(key)
  }

  put(key: string, bytes: Uint8Array, options?: PutOptions): Promise<{ readonly etag: string }> {
    const write = () => this.#inner.put(key, bytes, options)
    return this.#hooks.put === undefined ? write() : this.#hooks.put(key, write)
  }

  async *list(prefix: string, options?: ListOptions): AsyncIterable<ObjectEntry> {
    await this.#hooks.list?.(prefix)
    yield* this.#inner.list(prefix, options)
  }

  delete(key: string): Promise<void> {
    const remove = () => this.#inner.delete(key)
    return this.#hooks.delete === undefined ? remove() : this.#hooks.delete(key, remove)
  }
}
