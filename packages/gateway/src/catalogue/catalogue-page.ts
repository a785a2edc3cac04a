import { ServingError } from '@quiver/protocol'
import type { CatalogueMemory } from './catalogue-memory.ts'
import { isServed, type NameEntry, type Viewer } from './name-entry.ts'

export interface PageRequest {
  /** Names that start with this; all without it. */
  readonly prefix?: string | undefined
  /** 1 … 1000; 100 without it. */
  readonly limit?: number | undefined
  /** Of the page before. */
  readonly cursor?: string | undefined
  /** Whose adapters; everybody's without it. */
  readonly viewer?: Viewer | undefined
  /** Also names of which nothing is served any more. */
  readonly withRetired?: boolean | undefined
}

export interface CataloguePage {
  /** Ascending by name. */
  readonly entries: readonly NameEntry[]
  /** Where the next page begins; absent on the last one. */
  readonly cursor?: string
}

const DEFAULT_LIMIT = 100
const MAX_LIMIT = 1000

/**
 * Names in ascending order, page by page. A name that comes or goes between two pages moves no other: the cursor is the last
 * name that was given. The first name is found in O(log n), each further one, shown or hidden, takes O(1).
 */
export function pageOf(
  memory: CatalogueMemory,
  { prefix = '', limit = DEFAULT_LIMIT, cursor, viewer = {}, withRetired = false }: PageRequest,
): CataloguePage {
  const wanted = Math.min(Math.max(1, Math.trunc(limit)), MAX_LIMIT)
  const entries: NameEntry[] = []
  for (const name of memory.names.from(prefix, cursor === undefined ? '' : nameAt(cursor))) {
    const entry = memory.entry(name)
    if (entry === undefined || !(isServed(entry, viewer) || (withRetired && mayKnow(entry, viewer)))) continue
    if (entries.length === wanted) return { entries, cursor: cursorAfter(entries) }
    entries.push(entry)
  }
  return { entries }
}

/** Of a retired name: whether a version of it was ever visible to the viewer. */
function mayKnow({ versions }: NameEntry, { tenant }: Viewer): boolean {
  if (tenant === undefined) return versions.size > 0
  return [...versions.values()].some((manifest) => manifest.tenant === undefined || manifest.tenant === tenant)
}

function cursorAfter(entries: readonly NameEntry[]): string {
  return Buffer.from(`1 ${entries.at(-1)?.name ?? ''}`).toString('base64url')
}

function nameAt(cursor: string): string {
  const text = Buffer.from(cursor.slice(0, 512), 'base64url').toString()
  if (text.startsWith('1 ')) return text.slice(2)
  throw new ServingError('invalid_request', `${JSON.stringify(cursor.slice(0, 80))} is not a cursor of a page of adapters`)
}
