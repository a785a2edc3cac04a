import { createHash } from 'node:crypto'
import type { GetOptions, ListOptions, ObjectEntry, ObjectStore, PutOptions, StoredObject } from '@quiver/cache/store'
import { isStoreKey } from '@quiver/cache/store'
import { ServingError } from '@quiver/protocol'

/** An object store in memory, with what tests want to know and to spoil. */
export class MemoryStore implements ObjectStore {
  readonly objects = new Map<string, Uint8Array<ArrayBuffer>>()
  /** Keys of all calls of `get`, in order. */
  readonly gets: string[] = []
  /** Awaited before each `get` answers; a test holds loads up here, or makes them fail. */
  onGet: (key: string, signal: AbortSignal | undefined) => Promise<void> = async () => {}

  async get(key: string, options: GetOptions = {}): Promise<StoredObject> {
    checkKey(key)
    this.gets.push(key)
    await this.onGet(key, options.signal)
    const object = this.#at(key)
    const { start, end } = options.range ?? { start: 0, end: object.length }
    if (options.range !== undefined && !(start >= 0 && end > start && start < object.length)) {
      throw new ServingError('invalid_request', 'no such range')
    }
    const bytes = object.slice(start, end)
    if (options.maxBytes !== undefined && bytes.length > options.maxBytes) throw new ServingError('too_large', 'too large')
    if (options.ifMatch !== undefined && options.ifMatch !== etagOf(object)) throw new ServingError('conflict', 'changed')
    return { bytes, etag: etagOf(object), size: object.length }
  }

  async head(key: string): Promise<ObjectEntry> {
    checkKey(key)
    const object = this.#at(key)
    return { key, size: object.length, etag: etagOf(object) }
  }

  async put(key: string, bytes: Uint8Array, options: PutOptions = {}): Promise<{ readonly etag: string }> {
    checkKey(key)
    const present = this.objects.get(key)
    if (options.ifNoneMatch === '*' && present !== undefined) throw new ServingError('conflict', 'exists')
    if (options.ifMatch !== undefined && etagOf(this.#at(key)) !== options.ifMatch) throw new ServingError('conflict', 'changed')
    const copy = new Uint8Array(bytes)
    this.objects.set(key, copy)
    return { etag: etagOf(copy) }
  }

  async *list(prefix: string, { startAfter = '' }: ListOptions = {}): AsyncIterable<ObjectEntry> {
    for (const key of [...this.objects.keys()].sort()) {
      // It may have been deleted since.
      if (key.startsWith(prefix) && key > startAfter && this.objects.has(key)) yield await this.head(key)
    }
  }

  async delete(key: string): Promise<void> {
    checkKey(key)
    this.objects.delete(key)
  }

  #at(key: string): Uint8Array<ArrayBuffer> {
    const object = this.objects.get(key)
    if (object === undefined) throw new ServingError('not_found', `no object ${key}`)
    return object
  }
}

function etagOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

function checkKey(key: string): void {
  if (!isStoreKey(key)) throw new ServingError('invalid_request', 'not a key')
}
