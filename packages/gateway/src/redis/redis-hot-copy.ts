import { hash } from 'node:crypto'
import { type Logger, toServingError } from '@quiver/protocol'
import type { HotCopy, ObjectVersion } from '../catalogue/hot-copy.ts'
import type { RedisConnection } from './redis-connection.ts'

/** Of the form of keys and values: other versions of Quiver may share the server. */
const FORMAT = 1
/** Copies that nobody wrote again for this long are of objects that are gone. */
const KEPT_S = 7 * 86_400
const ETAG_BYTES = 512

export interface RedisHotCopyOptions {
  readonly redis: RedisConnection
  /** Tells one store's copies from another's in the same Redis. */
  readonly scope: string
  readonly log: Logger
}

/**
 * Copies in Redis. A value is its etag, the sha256 of the body and the body; what does not hold together is passed over. Whatever
 * Redis answers instead, or that it does not, is the same as having no copies, and is logged when it begins and ends.
 */
export class RedisHotCopy implements HotCopy {
  readonly #options: RedisHotCopyOptions
  #isFailing = false

  constructor(options: RedisHotCopyOptions) {
    this.#options = options
  }

  async read(objects: readonly ObjectVersion[]): Promise<readonly (Uint8Array | undefined)[] | undefined> {
    if (objects.length === 0) return []
    return await this.#try(async (client) => {
      const values = await client.mgetBuffer(objects.map(({ key }) => this.#keyOf(key)))
      return objects.map(({ etag }, index) => bodyOf(values[index], etag))
    })
  }

  async write(objects: readonly (ObjectVersion & { readonly bytes: Uint8Array })[]): Promise<void> {
    if (objects.length === 0) return
    await this.#try(async (client) => {
      const pipeline = client.pipeline()
      for (const { key, etag, bytes } of objects) pipeline.set(this.#keyOf(key), copyOf(etag, bytes), 'EX', KEPT_S)
      const failed = (await pipeline.exec())?.find(([error]) => error !== null)
      if (failed?.[0] instanceof Error) throw failed[0]
    })
  }

  async #try<T>(work: (client: RedisConnection['client']) => Promise<T>): Promise<T | undefined> {
    const { redis, log } = this.#options
    // While there is no connection its own state says so in the log.
    if (redis.client.status !== 'ready') return undefined
    try {
      const result = await work(redis.client)
      if (this.#isFailing) log('info', 'Redis keeps copies of the catalogue again')
      this.#isFailing = false
      return result
    } catch (error) {
      const reason = error instanceof Error ? error.message : toServingError(error).message
      if (!this.#isFailing) log('warn', 'Redis keeps no copies of the catalogue now: it is read from the store', { reason })
      this.#isFailing = true
      return undefined
    }
  }

  #keyOf(key: string): string {
    return `quiver:${this.#options.scope}:copy:${FORMAT}:${key}`
  }
}

function copyOf(etag: string, bytes: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(`${etag}\n${hash('sha256', bytes, 'hex')}\n`), bytes])
}

function bodyOf(value: Buffer | null | undefined, etag: string): Uint8Array | undefined {
  if (value === null || value === undefined) return undefined
  const first = value.subarray(0, ETAG_BYTES).indexOf(0x0a)
  if (first === -1 || value.toString('utf8', 0, first) !== etag) return undefined
  const second = first + 1 + 64
  const body = value.subarray(second + 1)
  return value[second] === 0x0a && value.toString('latin1', first + 1, second) === hash('sha256', body, 'hex') ? body : undefined
}
