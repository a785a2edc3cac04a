import type { ObjectStore } from '@quiver/cache/store'
import { type AdapterDigest, type AdapterName, type Logger, ServingError } from '@quiver/protocol'
import { type AdapterReference, DEFAULT_ALIAS, parseAdapterReference } from './adapter-reference.ts'
import type { AuditEvent } from './audit-event.ts'
import { AuditLog } from './audit-log.ts'
import { CatalogueMemory, type CatalogueProblem } from './catalogue-memory.ts'
import { type CataloguePage, type PageRequest, pageOf } from './catalogue-page.ts'
import type { ChangeFeed } from './change-feed.ts'
import type { HotCopy } from './hot-copy.ts'
import { CATALOGUE_PREFIX, decodeManifest, encodeManifest, type Manifest, manifestKey, nameFolder } from './manifest.ts'
import { type Found, find, isServed, makeEntry, type NameEntry, type Viewer } from './name-entry.ts'
import { encodeRecord, type NameRecord, recordKey } from './name-record.ts'
import { type RefreshReport, refreshMemory } from './refresh.ts'

/** Names that an answer about an unknown adapter mentions. */
const NAMES_SHOWN = 8
/** Problems that one refresh writes to the log, one line each. */
const PROBLEMS_LOGGED = 20
/** Each round somebody's change succeeds, so that this many must be made at once for one to give up. */
const CHANGE_ATTEMPTS = 100

/** The version that a request's words mean. */
export interface ResolvedAdapter {
  readonly name: AdapterName
  readonly digest: AdapterDigest
  /** The base model that it was found to fit. */
  readonly base?: string
  /** The version's own, for conversations; absent: the base model's. */
  readonly chatTemplate?: string | undefined
}

/** The part of the catalogue that one tenant may know of. */
export interface CatalogueView {
  /**
   * As `Catalogue.resolve`. A private adapter of another tenant is one that does not exist.
   * @param user who is answered, for canaries
   */
  resolve(text: string, user?: string): ResolvedAdapter
  /** What the name alone means, canary aside. */
  latest(name: string): Manifest | undefined
  /** Ascending by code unit. */
  names(): readonly string[]
}

export interface CatalogueDeps {
  readonly log?: Logger
  readonly hotCopy?: HotCopy
  readonly feed?: ChangeFeed
}

/** A new record for a name and what the audit log says about it. */
export interface RecordChange {
  readonly record: NameRecord
  readonly event: AuditEvent
}

/**
 * Which adapters there are and what their names mean. The truth is in the object store: for each version a manifest that is
 * written once, for each name a record that is replaced under its etag. This is the copy in memory that requests are answered
 * from. `refresh` brings it up to date; this process's own changes are in it at once.
 */
export class Catalogue {
  readonly audit: AuditLog
  readonly #store: ObjectStore
  readonly #deps: CatalogueDeps
  readonly #memory = new CatalogueMemory()
  #running: Promise<RefreshReport> | undefined
  #next: Promise<RefreshReport> | undefined

  constructor(store: ObjectStore, deps: CatalogueDeps = {}) {
    this.#store = store
    this.#deps = deps
    this.audit = new AuditLog(store)
  }

  /** The same as `refresh`; to be called before anything is resolved. */
  async load(): Promise<void> {
    await this.refresh()
  }

  /**
   * Learns what others have changed: one listing, and reads of what is new. A call while one runs gets the next one, since
   * the running listing may be older than what its caller wants to see.
   * @throws ServingError `source_unavailable`; what is known stays
   */
  refresh(): Promise<RefreshReport> {
    if (this.#running === undefined) {
      this.#running = this.#refresh(CATALOGUE_PREFIX).finally(() => {
        this.#running = undefined
      })
      return this.#running
    }
    this.#next ??= this.#running.then(
      () => this.#startNext(),
      () => this.#startNext(),
    )
    return this.#next
  }

  /** `refresh` for one name. */
  async refreshName(name: AdapterName): Promise<RefreshReport> {
    return await this.#refresh(nameFolder(name))
  }

  /** Objects of the store that cannot be used. One of them keeps nothing else from being served. */
  problems(): readonly CatalogueProblem[] {
    return this.#memory.problems
  }

  /**
   * The version that `name`, `name@alias`, `name@3` or `name@sha256:…` means now. A lookup in memory: no store is asked, whatever the
   * name, and it takes constant time (a digest: the number of the name's versions).
   * @throws ServingError `invalid_request` for what cannot be a reference, `adapter_not_found`, `adapter_unavailable` while the
   * name's record cannot be read
   */
  resolve(text: string, viewer: Viewer = {}, user?: string): ReturnType<CatalogueView['resolve']> {
    const { name, digest, base, chatTemplate } = this.find(text, viewer, user).manifest
    return { name, digest, base, ...(chatTemplate === undefined ? {} : { chatTemplate }) }
  }

  /** As `resolve`, with everything that is known of the version. */
  find(text: string, viewer: Viewer = {}, user?: string): Found {
    const { name, version } = parseAdapterReference(text)
    const entry = this.#memory.entry(name)
    if (entry === undefined || !isServed(entry, viewer)) {
      throw new ServingError('adapter_not_found', `Adapter '${name}' is not known here. ${this.#offer(viewer)}`)
    }
    if (entry.fault !== undefined) throw faulty(entry)
    const found = find(entry, version, viewer, user)
    if (found !== undefined) return found
    throw new ServingError('adapter_not_found', missing(entry, version, text, viewer))
  }

  latest(name: string, viewer: Viewer = {}): Manifest | undefined {
    const entry = this.#memory.entry(name)
    if (entry === undefined || entry.fault !== undefined) return undefined
    return find(entry, { kind: 'alias', alias: DEFAULT_ALIAS }, viewer, undefined)?.manifest
  }

  /** Of which something is served. Ascending by code unit; O(all names). */
  names(viewer: Viewer = {}): readonly string[] {
    return [...this.#memory.served(viewer)].map(({ name }) => name)
  }

  /** A part of all names in ascending order. @throws ServingError `invalid_request` for a cursor that no page gave */
  page(request: PageRequest): CataloguePage {
    return pageOf(this.#memory, request)
  }

  /** Everything about one name, retired versions too; undefined when nothing was ever published under it. */
  entry(name: string): NameEntry | undefined {
    return this.#memory.entry(name)
  }

  /** All names, those that are retired too. */
  *entries(): Generator<NameEntry> {
    for (const name of this.#memory.names.all()) {
      const entry = this.#memory.entry(name)
      if (entry !== undefined) yield entry
    }
  }

  /** What a tenant sees: the public adapters and its own. It follows every change. */
  visibleTo(tenant: string): CatalogueView {
    const viewer = { tenant }
    return {
      resolve: (text, user) => this.resolve(text, viewer, user),
      latest: (name) => this.latest(name, viewer),
      names: () => this.names(viewer),
    }
  }

  /**
   * Enters a version of a name. Its bytes must be in the store already.
   * @throws ServingError `conflict` when somebody else entered that version first, `source_unavailable`
   */
  async add(manifest: Manifest): Promise<void> {
    const key = manifestKey(manifest.name, manifest.version)
    const bytes = encodeManifest(manifest)
    // As everybody will read it; what nobody could read is not written.
    const asRead = decodeManifest(key, bytes)
    const { etag } = await this.#store.put(key, bytes, { ifNoneMatch: '*' })
    this.#memory.takeManifest(asRead, etag)
    await this.#tell(manifest.name, { key, etag, bytes })
  }

  /**
   * Changes what a name means, by compare-and-swap on its record: `decide` sees the record as it is in the store and says what it
   * should be, again each time that somebody else was faster.
   * @param decide the new record, or undefined when there is nothing to change; what it throws ends the change
   * @returns the name as it is then
   * @throws ServingError `conflict` when others kept changing it, `source_unavailable`, and what `decide` throws
   */
  async change(name: AdapterName, decide: (entry: NameEntry) => RecordChange | undefined): Promise<NameEntry> {
    const key = recordKey(name)
    for (let attempt = 0; attempt < CHANGE_ATTEMPTS; attempt++) {
      await this.refreshName(name)
      const entry = this.#memory.entry(name) ?? makeEntry(name, new Map(), undefined)
      if (entry.fault !== undefined) throw faulty(entry)
      const change = decide(entry)
      if (change === undefined) return entry
      const before = entry.record.lastEvent
      if (before !== undefined) await this.audit.append(before)
      const lastVersion = Math.max(change.record.lastVersion, entry.record.lastVersion, ...entry.versions.keys())
      const record = { ...change.record, lastVersion, lastEvent: change.event }
      const known = this.#memory.etag(key)
      const bytes = encodeRecord(record)
      const etag = await this.#replace(key, bytes, known)
      if (etag === undefined) continue
      this.#memory.takeRecord(record, etag)
      await this.#note(change.event)
      await this.#tell(name, { key, etag, bytes })
      return this.#memory.entry(name) ?? entry
    }
    throw new ServingError('conflict', `adapter '${name}' is being changed by too many at once: try again`)
  }

  /**
   * Deletes the manifest of a version that a tombstone covers; for the collector.
   * @throws ServingError `source_unavailable`
   */
  async remove(name: AdapterName, version: number): Promise<void> {
    const key = manifestKey(name, version)
    await this.#store.delete(key)
    this.#memory.forget(key)
    await this.#deps.feed?.announce(name)
  }

  #startNext(): Promise<RefreshReport> {
    this.#next = undefined
    return this.refresh()
  }

  async #refresh(prefix: string): Promise<RefreshReport> {
    const { log, hotCopy } = this.#deps
    const report = await refreshMemory(prefix, { store: this.#store, memory: this.#memory, hotCopy })
    const { problems } = report
    for (const { key, reason } of problems.slice(0, PROBLEMS_LOGGED)) log?.('warn', `catalogue: ${reason}`, { key })
    if (problems.length > PROBLEMS_LOGGED)
      log?.('warn', `catalogue: ${problems.length - PROBLEMS_LOGGED} more objects cannot be used`)
    return report
  }

  /** @returns the new etag; undefined when somebody else was faster */
  async #replace(key: string, bytes: Uint8Array, known: string | undefined): Promise<string | undefined> {
    try {
      const condition = known === undefined ? ({ ifNoneMatch: '*' } as const) : { ifMatch: known }
      return (await this.#store.put(key, bytes, condition)).etag
    } catch (error) {
      // not_found: it was deleted meanwhile, and the condition was on its etag.
      if (error instanceof ServingError && (error.code === 'conflict' || error.code === 'not_found')) return undefined
      throw error
    }
  }

  /** The change is made, whatever becomes of its copy in the log: the next change of the name writes it again. */
  async #note(event: AuditEvent): Promise<void> {
    try {
      await this.audit.append(event)
    } catch (error) {
      if (!(error instanceof ServingError)) throw error
      this.#deps.log?.('warn', `the audit log cannot be written now: ${error.message}`, { adapter: event.subject })
    }
  }

  async #tell(name: AdapterName, object: { key: string; etag: string; bytes: Uint8Array }): Promise<void> {
    // The copy first, so that who hears of the change finds it; without one it asks the store.
    await this.#deps.hotCopy?.write([object])
    await this.#deps.feed?.announce(name)
  }

  #offer(viewer: Viewer): string {
    const names: string[] = []
    for (const { name } of this.#memory.served(viewer)) {
      if (names.push(name) > NAMES_SHOWN) break
    }
    if (names.length === 0) return 'No adapter has been published on this server.'
    return `There are: ${names.slice(0, NAMES_SHOWN).join(', ')}${names.length > NAMES_SHOWN ? ' and more' : ''}.`
  }
}

function faulty({ name, fault }: NameEntry): ServingError {
  return new ServingError(
    'adapter_unavailable',
    `Adapter '${name}' cannot be used: what its aliases mean cannot be read from the store. An operator has to mend its record.`,
    { reason: fault ?? '' },
  )
}

function missing(entry: NameEntry, wanted: AdapterReference['version'], text: string, viewer: Viewer): string {
  const latest = find(entry, { kind: 'alias', alias: DEFAULT_ALIAS }, viewer, undefined)?.manifest.version
  const said = latest === undefined ? 'It has no latest version.' : `Its latest is ${latest}.`
  if (!text.includes('@')) return `Adapter '${entry.name}' has no latest version: name one, or an alias.`
  const what = wanted.kind === 'alias' ? 'alias or version' : 'version'
  return `Adapter '${entry.name}' has no ${what} '${text.slice(entry.name.length + 1)}' here. ${said}`
}
