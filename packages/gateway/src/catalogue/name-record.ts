/**
 * What may change about a name, in one object of the store: which versions its aliases mean, what is retired, whether it is
 * pinned. The manifests beside it never change. A name without a record means what it meant before there were records:
 * `latest` is its highest version.
 *
 * The last change's entry of the audit log travels in the record, so that change and entry are written at once; it is copied
 * to the log afterwards, by the next who changes the record if the first could not.
 */
import { type AdapterName, ServingError } from '@quiver/protocol'
import { z } from 'zod'
import { DEFAULT_ALIAS } from './adapter-reference.ts'
import { type AuditEvent, auditEventSchema } from './audit-event.ts'
import { type Manifest, nameFolder } from './manifest.ts'

/** Requests of an alias that another version answers. */
export interface Canary {
  readonly version: number
  /** More than 0 and less than 100. */
  readonly sharePercent: number
}

export interface AliasTarget {
  readonly version: number
  /** What it named before, the last one last; bounded. Each `rollback` takes one off. */
  readonly previous: readonly number[]
  /**
   * The highest version that it was ever moved to. A publisher that comes again, or late, moves an alias only beyond it: a
   * rollback stays, and of two publishers at once the later version wins whoever is faster.
   */
  readonly reached: number
  readonly canary?: Canary | undefined
}

/** A version that is not served any more. */
export interface Tombstone {
  /** ISO 8601, UTC. */
  readonly at: string
  /** Its manifest is being deleted: it cannot come back. */
  readonly isCollected?: true | undefined
}

export interface NameRecord {
  readonly name: AdapterName
  /** No version up to this number is ever given again, also when its manifest is gone. */
  readonly lastVersion: number
  readonly aliases: ReadonlyMap<string, AliasTarget>
  readonly isPinned: boolean
  readonly retired: ReadonlyMap<number, Tombstone>
  readonly lastEvent?: AuditEvent | undefined
}

export const limitsOfRecord = { aliases: 64, previous: 16, bytes: 1024 * 1024 } as const

const RECORD_FILE = 'record.json'
const FORMAT = 1
const version = z.int().positive()
const recordSchema = z.object({
  format: z.literal(FORMAT),
  name: z.string(),
  lastVersion: z.int().nonnegative(),
  aliases: z.record(
    z.string().regex(/^[A-Za-z]/),
    z.object({
      version,
      previous: z.array(version).max(limitsOfRecord.previous),
      reached: version,
      canary: z.object({ version, sharePercent: z.number().gt(0).lt(100) }).optional(),
    }),
  ),
  isPinned: z.boolean(),
  retired: z.record(
    z.string().regex(/^[1-9][0-9]*$/),
    z.object({ at: z.iso.datetime(), isCollected: z.literal(true).optional() }),
  ),
  lastEvent: auditEventSchema.optional(),
})

export function recordKey(name: AdapterName): string {
  return `${nameFolder(name)}${RECORD_FILE}`
}

export function isRecordFile(file: string): boolean {
  return file === RECORD_FILE
}

export function encodeRecord(record: NameRecord): Uint8Array {
  const written = {
    format: FORMAT,
    ...record,
    aliases: Object.fromEntries(record.aliases),
    retired: Object.fromEntries(record.retired),
  }
  return new TextEncoder().encode(`${JSON.stringify(written, null, 2)}\n`)
}

/** @throws ServingError `source_unavailable` naming the key */
export function decodeRecord(name: AdapterName, bytes: Uint8Array): NameRecord {
  const key = recordKey(name)
  try {
    const read = recordSchema.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)))
    if (read.name === name) {
      const { format: _, ...rest } = read
      return {
        ...rest,
        name,
        aliases: new Map(Object.entries(read.aliases)),
        retired: new Map(Object.entries(read.retired).map(([number, tombstone]) => [Number(number), tombstone])),
      }
    }
  } catch (cause) {
    throw new ServingError(
      'source_unavailable',
      `the record ${key} cannot be read: put back what it was, or remove it to make latest the highest version again`,
      { key },
      { cause },
    )
  }
  throw new ServingError('source_unavailable', `the record ${key} is about another name: remove it from the store`, { key })
}

/** What a name without a record means: every version, `latest` the highest. */
export function impliedRecord(name: AdapterName, versions: ReadonlyMap<number, Manifest>): NameRecord {
  const numbers = [...versions.keys()].sort((a, b) => a - b)
  const highest = numbers.at(-1)
  const previous = numbers.slice(0, -1).slice(-limitsOfRecord.previous)
  return {
    name,
    lastVersion: highest ?? 0,
    aliases: new Map(highest === undefined ? [] : [[DEFAULT_ALIAS, { version: highest, previous, reached: highest }]]),
    isPinned: false,
    retired: new Map(),
  }
}
