import { hash } from 'node:crypto'
import type { ObjectStore } from '@quiver/cache/store'
import { ServingError } from '@quiver/protocol'
import { type AuditEvent, auditEventSchema } from './audit-event.ts'

const PREFIX = 'audit/'
const DAY_MS = 86_400_000
/** Times are kept as what is left until then (in the year 2286), so that a listing in ascending order has the newest first. */
const LAST_MS = 9_999_999_999_999
const DIGITS = 13
const DAY_DIGITS = 6
const MAX_BYTES = 256 * 1024
const MAX_PAGE = 500
const MAX_LOOKED = 5000
/** Events that are read at once. */
const READS = 32

export interface AuditPage {
  /** The newest first. */
  readonly events: readonly (AuditEvent & { readonly id: string })[]
  /** Where the next page begins; absent on the last one. */
  readonly cursor?: string
}

/** Who changed what, one object for each event, written once and never changed. The newest come first. */
export class AuditLog {
  readonly #store: ObjectStore

  constructor(store: ObjectStore) {
    this.#store = store
  }

  /**
   * Writes an event down. The same event again changes nothing, whoever writes it.
   * @throws ServingError `source_unavailable`
   */
  async append(event: AuditEvent): Promise<void> {
    const text = JSON.stringify(event)
    try {
      await this.#store.put(keyOf(event, text), new TextEncoder().encode(`${text}\n`), { ifNoneMatch: '*' })
    } catch (error) {
      if (!(error instanceof ServingError && error.code === 'conflict')) throw error
    }
  }

  /**
   * @param limit 1 … 500
   * @param cursor of the page before
   * @param subject only events about this name. A page looks at 5,000 events at most: it may have few of them and a cursor
   * @throws ServingError `invalid_request` for a cursor that no page gave, `source_unavailable`
   */
  async page({ limit = 100, cursor, subject }: { limit?: number; cursor?: string; subject?: string } = {}): Promise<AuditPage> {
    const events: (AuditEvent & { id: string })[] = []
    const wanted = Math.min(Math.max(1, Math.trunc(limit)), MAX_PAGE)
    let looked = 0
    let last = ''
    for await (const { key, event } of this.#events(cursor, Math.min(wanted + 1, READS))) {
      // There is something behind the page.
      if (events.length === wanted || looked === MAX_LOOKED) return { events, cursor: idOf(last) }
      looked += 1
      last = key
      if (event !== undefined && (subject === undefined || event.subject === subject)) events.push({ id: idOf(key), ...event })
    }
    return { events }
  }

  /** In the log's order; so many are read at once. */
  async *#events(cursor: string | undefined, atOnce: number): AsyncGenerator<{ key: string; event: AuditEvent | undefined }> {
    let keys: string[] = []
    for await (const { key } of this.#store.list(PREFIX, cursor === undefined ? {} : { startAfter: keyAt(cursor) })) {
      if (keys.push(key) < atOnce) continue
      yield* await this.#readAll(keys)
      keys = []
    }
    yield* await this.#readAll(keys)
  }

  async #readAll(keys: readonly string[]): Promise<readonly { key: string; event: AuditEvent | undefined }[]> {
    return await Promise.all(keys.map(async (key) => ({ key, event: await this.#read(key) })))
  }

  /** Undefined for what is no event: it is not for the log's readers to stumble over. */
  async #read(key: string): Promise<AuditEvent | undefined> {
    try {
      const { bytes } = await this.#store.get(key, { maxBytes: MAX_BYTES })
      return auditEventSchema.parse(JSON.parse(new TextDecoder().decode(bytes)))
    } catch (error) {
      if (error instanceof ServingError && error.code === 'source_unavailable') throw error
      return undefined
    }
  }
}

/** A folder for each day, so that a folder on a disk stays small. Events of one millisecond differ by their content. */
function keyOf(event: AuditEvent, text: string): string {
  const leftMs = LAST_MS - new Date(event.at).getTime()
  const day = String(Math.floor(leftMs / DAY_MS)).padStart(DAY_DIGITS, '0')
  return `${PREFIX}${day}/${String(leftMs).padStart(DIGITS, '0')}-${hash('sha256', text, 'hex').slice(0, 16)}.json`
}

function idOf(key: string): string {
  return key.slice(key.lastIndexOf('/') + 1, -'.json'.length)
}

function keyAt(id: string): string {
  if (!/^[0-9]{13}-[0-9a-f]{16}$/.test(id)) {
    throw new ServingError('invalid_request', `${JSON.stringify(id.slice(0, 80))} is not a cursor of the audit log`)
  }
  const day = String(Math.floor(Number(id.slice(0, DIGITS)) / DAY_MS)).padStart(DAY_DIGITS, '0')
  return `${PREFIX}${day}/${id}.json`
}
