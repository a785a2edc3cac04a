/** Between the two requests of an upload by files, its config lies in the store: the second may come to another gateway. */
import { hash } from 'node:crypto'
import { MAX_CONFIG_BYTES } from '@quiver/cache/format'
import type { ObjectStore } from '@quiver/cache/store'
import { type AdapterName, ServingError } from '@quiver/protocol'

export interface UploadOwner {
  readonly name: AdapterName
  readonly tenant: string
}

const PREFIX = 'uploads/'
const LIFE_MS = 3_600_000
/** Sessions that one that is opened takes away when their time is over. */
const SWEPT = 100
/** Sessions of a store at once. */
const AT_MOST = 1000
const DIGITS = 13

export class UploadSessions {
  readonly #store: ObjectStore
  readonly #now: () => Date
  readonly #newId: () => string

  constructor({ store, now, newId }: { readonly store: ObjectStore; readonly now: () => Date; readonly newId: () => string }) {
    this.#store = store
    this.#now = now
    this.#newId = newId
  }

  /** @returns the session, good for an hour. @throws ServingError `overloaded` when there are too many, `source_unavailable` */
  async open(owner: UploadOwner, config: Uint8Array): Promise<string> {
    await this.#sweep()
    const at = String(this.#now().getTime()).padStart(DIGITS, '0')
    const session = `${at}-${ownerHash(owner)}-${hash('sha256', this.#newId(), 'hex').slice(0, 16)}`
    await this.#store.put(keyOf(session), config, { ifNoneMatch: '*' })
    return session
  }

  /** @throws ServingError `not_found` for a session that is over, of another name or another tenant */
  async configOf(owner: UploadOwner, session: string): Promise<Uint8Array> {
    const [, at, hashed] = /^([0-9]{13})-([0-9a-f]{16})-[0-9a-f]{16}$/.exec(session) ?? []
    if (at !== undefined && hashed === ownerHash(owner) && !this.#isOver(at)) {
      try {
        return (await this.#store.get(keyOf(session), { maxBytes: MAX_CONFIG_BYTES })).bytes
      } catch (thrown) {
        if (!(thrown instanceof ServingError && thrown.code === 'not_found')) throw thrown
      }
    }
    throw new ServingError(
      'not_found',
      'There is no such upload session: send adapter_config.json first, and the `session` that it answers',
    )
  }

  /** What cannot be deleted now is swept later. */
  async close(session: string): Promise<void> {
    await this.#store.delete(keyOf(session)).catch(() => undefined)
  }

  /** The oldest come first in a listing. */
  async #sweep(): Promise<void> {
    let count = 0
    const over: string[] = []
    for await (const { key } of this.#store.list(PREFIX)) {
      if (++count > AT_MOST) break
      if (over.length < SWEPT && this.#isOver(key.slice(PREFIX.length, PREFIX.length + DIGITS))) over.push(key)
    }
    await Promise.all(over.map((key) => this.#store.delete(key)))
    if (count - over.length >= AT_MOST)
      throw new ServingError('overloaded', 'too many uploads are under way: try again in a while')
  }

  #isOver(at: string): boolean {
    return !(this.#now().getTime() - Number(at) <= LIFE_MS)
  }
}

function keyOf(session: string): string {
  return `${PREFIX}${session}.json`
}

function ownerHash({ name, tenant }: UploadOwner): string {
  return hash('sha256', JSON.stringify([tenant, name]), 'hex').slice(0, 16)
}
