import { type AdapterName, parseAdapterName, ServingError } from '@quiver/protocol'
import { CATALOGUE_PREFIX, decodeManifest, type Manifest, manifestKey, nameFolder } from './manifest.ts'
import { isServed, makeEntry, type NameEntry, type Viewer } from './name-entry.ts'
import { decodeRecord, isRecordFile, type NameRecord, recordKey } from './name-record.ts'
import { SortedNames } from './sorted-names.ts'

/** An object of the catalogue that cannot be used, and why. Everything else is served as if it were not there. */
export interface CatalogueProblem {
  readonly key: string
  readonly reason: string
}

interface Parts {
  readonly versions: Map<number, Manifest>
  record: NameRecord | undefined
  fault: string | undefined
}

/** What a key of the catalogue holds; undefined for one that no publisher writes. */
type Place = { readonly name: AdapterName; readonly version: number | 'record' } | undefined

/**
 * The catalogue in memory: entries by name, and for each object that was read the etag that it had. An object that cannot be
 * used is kept as a problem with its etag, so that it is not read again until it changes.
 */
export class CatalogueMemory {
  readonly #parts = new Map<string, Parts>()
  readonly #entries = new Map<string, NameEntry>()
  readonly #names = new SortedNames()
  /** Etags by key, grouped by the folder of a name, so that one name is looked at without the others. */
  readonly #etags = new Map<string, Map<string, string>>()
  readonly #problems = new Map<string, CatalogueProblem>()

  entry(name: string): NameEntry | undefined {
    return this.#entries.get(name)
  }

  get names(): SortedNames {
    return this.#names
  }

  /** Ascending; O(all names). */
  *served(viewer: Viewer): Generator<NameEntry> {
    for (const name of this.#names.all()) {
      const entry = this.#entries.get(name)
      if (entry !== undefined && isServed(entry, viewer)) yield entry
    }
  }

  get problems(): readonly CatalogueProblem[] {
    return [...this.#problems.values()]
  }

  etag(key: string): string | undefined {
    return this.#etags.get(folderOf(key))?.get(key)
  }

  /** A copy of what is known below a prefix: of the whole catalogue, or of one name's folder. */
  etagsBelow(prefix: string): Map<string, string> {
    if (prefix !== CATALOGUE_PREFIX) return new Map(this.#etags.get(prefix))
    return new Map([...this.#etags.values()].flatMap((keys) => [...keys]))
  }

  /**
   * Takes in an object as the store has it.
   * @returns a problem that was not known before
   */
  take(key: string, etag: string, bytes: Uint8Array): CatalogueProblem | undefined {
    const place = placeOf(key)
    try {
      if (place === undefined) throw new ServingError('source_unavailable', `${key} is no part of the catalogue`)
      if (place.version === 'record') this.takeRecord(decodeRecord(place.name, bytes), etag)
      else this.takeManifest(decodeManifest(key, bytes), etag)
      return undefined
    } catch (error) {
      if (!(error instanceof ServingError)) throw error
      return this.refuse(key, etag, error.message)
    }
  }

  /** Remembers that an object cannot be used. A record that cannot be read takes its name out of service. */
  refuse(key: string, etag: string, reason: string): CatalogueProblem {
    this.#remember(key, etag)
    const problem = { key, reason }
    this.#problems.set(key, problem)
    const place = placeOf(key)
    if (place?.version === 'record') {
      const parts = this.#partsOf(place.name)
      // What was read once is known to be what its publishers meant.
      if (parts.record === undefined) parts.fault = reason
      this.#rebuild(place.name)
    }
    return problem
  }

  /** @throws ServingError `source_unavailable` when it says something else than what is known of the version, which is kept */
  takeManifest(manifest: Manifest, etag: string): void {
    const key = manifestKey(manifest.name, manifest.version)
    const { versions } = this.#partsOf(manifest.name)
    const known = versions.get(manifest.version)
    if (known !== undefined && JSON.stringify(known) !== JSON.stringify(manifest)) {
      throw new ServingError('source_unavailable', `${key} was changed, which no publisher does: put back what it was`)
    }
    versions.set(manifest.version, manifest)
    this.#settle(key, etag, manifest.name)
  }

  takeRecord(record: NameRecord, etag: string): void {
    const parts = this.#partsOf(record.name)
    parts.record = record
    parts.fault = undefined
    this.#settle(recordKey(record.name), etag, record.name)
  }

  /** Takes out an object that the store does not have any more. */
  forget(key: string): void {
    const folder = folderOf(key)
    const keys = this.#etags.get(folder)
    keys?.delete(key)
    if (keys?.size === 0) this.#etags.delete(folder)
    this.#problems.delete(key)
    const place = placeOf(key)
    const parts = place === undefined ? undefined : this.#parts.get(place.name)
    if (place === undefined || parts === undefined) return
    if (place.version === 'record') {
      parts.record = undefined
      parts.fault = undefined
    } else parts.versions.delete(place.version)
    this.#rebuild(place.name)
  }

  #settle(key: string, etag: string, name: AdapterName): void {
    this.#remember(key, etag)
    this.#problems.delete(key)
    this.#rebuild(name)
  }

  #remember(key: string, etag: string): void {
    const folder = folderOf(key)
    const keys = this.#etags.get(folder) ?? new Map<string, string>()
    keys.set(key, etag)
    this.#etags.set(folder, keys)
  }

  #partsOf(name: AdapterName): Parts {
    const known = this.#parts.get(name)
    if (known !== undefined) return known
    const parts: Parts = { versions: new Map(), record: undefined, fault: undefined }
    this.#parts.set(name, parts)
    return parts
  }

  /** O(versions of the name). */
  #rebuild(name: AdapterName): void {
    const parts = this.#parts.get(name)
    if (parts === undefined) return
    if (parts.versions.size === 0 && parts.record === undefined && parts.fault === undefined) {
      this.#parts.delete(name)
      this.#entries.delete(name)
      this.#names.delete(name)
      return
    }
    this.#entries.set(name, makeEntry(name, new Map(parts.versions), parts.record, parts.fault))
    this.#names.add(name)
  }
}

/** With its `/`; the same text as `nameFolder`. */
function folderOf(key: string): string {
  return key.slice(0, key.lastIndexOf('/') + 1)
}

function placeOf(key: string): Place {
  const [, folder = '', file = '', ...rest] = key.split('/')
  if (rest.length > 0) return undefined
  try {
    const name = parseAdapterName(folder.replaceAll('@', '/'))
    if (!key.startsWith(nameFolder(name))) return undefined
    if (isRecordFile(file)) return { name, version: 'record' }
    const number = /^([1-9][0-9]{0,8})\.json$/.exec(file)?.[1]
    return number === undefined ? undefined : { name, version: Number(number) }
  } catch {
    // Not a name: somebody else's object.
    return undefined
  }
}
