/** Bytes `start` … `end − 1` of an object. An `end` beyond the object's size is cut to it. */
export interface ByteRange {
  readonly start: number
  readonly end: number
}

export interface GetOptions {
  /** Reads a part; without it the whole object. */
  readonly range?: ByteRange
  /** Refuses with `conflict` unless the object still has this etag, so that two ranges never come from two versions. */
  readonly ifMatch?: string
  /** Refuses with `too_large` before reading when the whole object (or the range) has more bytes. */
  readonly maxBytes?: number
  readonly signal?: AbortSignal
}

export interface StoredObject {
  readonly bytes: Uint8Array<ArrayBuffer>
  /** Changes whenever the content does; opaque. */
  readonly etag: string
  /** Bytes of the whole object, whatever the range. */
  readonly size: number
}

export interface ObjectEntry {
  readonly key: string
  readonly size: number
  readonly etag: string
}

export interface PutOptions {
  /** `'*'`: only when no object has this key yet. */
  readonly ifNoneMatch?: '*'
  /** Only when the object still has this etag. */
  readonly ifMatch?: string
}

export interface ListOptions {
  /** Begins with the first key after this one. */
  readonly startAfter?: string
}

/**
 * A flat map from keys to bytes: a folder, a bucket. Writes are whole and visible at once, or not at all.
 *
 * Every method throws only ServingErrors: `not_found` (no such key), `conflict` (a condition did not hold),
 * `too_large` (more than `maxBytes`), `invalid_request` (a key or range that no store could have),
 * `source_unavailable` (the store does not answer as it should).
 */
export interface ObjectStore {
  get(key: string, options?: GetOptions): Promise<StoredObject>
  /** Size and etag without the bytes. */
  head(key: string): Promise<ObjectEntry>
  put(key: string, bytes: Uint8Array, options?: PutOptions): Promise<{ readonly etag: string }>
  /**
   * Keys that start with `prefix`, each once, page by page behind the iterator. A prefix is text, not a folder: end it with
   * `/` unless `sql` may also bring `sql-v2`. The order is the store's own, and `startAfter` goes by it: ascending by code
   * unit in a folder, in memory and at Amazon's; folder by folder at some servers, where `b/1` comes before `b-1`. Names in
   * one folder that are all of one length have the same order everywhere.
   */
  list(prefix: string, options?: ListOptions): AsyncIterable<ObjectEntry>
  /** Deleting what is not there succeeds. */
  delete(key: string): Promise<void>
}
