/**
 * Publishing, in an order that leaves something valid wherever it stops: the bytes under their digest, then the manifest, which
 * makes them a version, then the record, which makes aliases mean it. Done again it finds what is there and goes on:
 *
 * - The same content of a name is one version, whoever publishes it how often: it is looked for before a number is taken, and
 *   again when somebody else took that number.
 * - An alias moves only to a version higher than any it was moved to before. So a publisher that comes late does not undo a
 *   newer publication or a rollback, and of two at once the higher version has the alias, whoever ends first.
 */
import { inspectAdapter } from '@quiver/cache/format'
import { type ObjectStore, putStoredAdapter } from '@quiver/cache/store'
import { type AdapterName, type BaseLayout, limits, ServingError } from '@quiver/protocol'
import { DEFAULT_ALIAS, parseAlias } from './adapter-reference.ts'
import { type Actor, theServer } from './audit-event.ts'
import type { Catalogue, RecordChange } from './catalogue.ts'
import { keepBytes } from './condemned.ts'
import type { Manifest } from './manifest.ts'
import { makeEntry, type NameEntry, withDigest } from './name-entry.ts'
import type { NameRecord } from './name-record.ts'
import { type AdapterMetadata, type AdapterProvenance, metadataSchema } from './provenance.ts'
import { expectTarget, withAlias } from './record-changes.ts'

export interface Publication {
  readonly name: AdapterName
  readonly config: Uint8Array
  readonly weights: Uint8Array<ArrayBuffer>
  /** What the adapter must fit. */
  readonly layout: BaseLayout
  readonly maxRank: number
  /** Which aliases shall mean it; `latest` without it, none for an empty list. */
  readonly aliases?: readonly string[] | undefined
  /** Refuses with `conflict` unless the first of `aliases` names this version now; 0: unless it names none. */
  readonly expected?: number | undefined
  /** Whether the name shall be pinned; without it that stays as it is. */
  readonly pin?: boolean | undefined
  readonly metadata?: AdapterMetadata | undefined
  readonly source?: AdapterProvenance | undefined
  /** At most 64 KiB. Another template makes another version of the same weights. */
  readonly chatTemplate?: string | undefined
  /** To whom alone it shall be visible; to everybody without it. */
  readonly tenant?: string | undefined
  /** For the audit log; the server itself without it. */
  readonly actor?: Actor | undefined
}

export interface PublishDeps {
  readonly store: ObjectStore
  readonly catalogue: Catalogue
  readonly now: () => Date
}

export interface Published {
  /** The version under which the content is served. */
  readonly manifest: Manifest
  /** Whether this call made the version, rather than finding it. */
  readonly isNew: boolean
  /** The aliases that mean it now. */
  readonly aliases: readonly string[]
}

/** What a version is made of, besides its name and number. */
type Content = Omit<Manifest, 'name' | 'version' | 'createdAt'>

/** Each round somebody else made a version of this name. */
const ATTEMPTS = 100

/**
 * Checks an adapter and makes it servable under a name. Publishing the same content again changes nothing, or finishes what was
 * interrupted; an older version's content stays that version, and no alias goes back to it.
 * @throws ServingError `adapter_invalid` with every reason, `invalid_parameters` for metadata, `invalid_request` for an alias,
 * `conflict` when an alias is not where it was expected or the name belongs to another tenant, `source_unavailable`
 * @example await publishAdapter({ name: parseAdapterName('acme/sql'), config, weights, layout, maxRank: 64 }, deps)
 */
export async function publishAdapter(publication: Publication, deps: PublishDeps): Promise<Published> {
  const { name, config, weights, layout, maxRank, aliases = [DEFAULT_ALIAS] } = publication
  checkWords(publication)
  const { digest, rank, modules, bytes } = await inspectAdapter(config, weights, layout, maxRank)
  if (modules.length === 0) throw new ServingError('adapter_invalid', `adapter '${name}' changes no module`, { adapter: name })
  const { metadata, source, chatTemplate, tenant } = publication
  const content: Content = {
    ...{ digest, base: layout.baseModel, rank, modules, bytes },
    ...(tenant === undefined ? {} : { tenant }),
    ...(metadata === undefined ? {} : { metadata }),
    ...(source === undefined ? {} : { source }),
    ...(chatTemplate === undefined ? {} : { chatTemplate }),
  }
  const made = await makeVersion(publication, content, deps)
  const { manifest } = made
  const entry = await deps.catalogue.change(name, (now) => publicationChange(now, made, publication, deps.now()))
  return { ...made, aliases: aliases.filter((alias) => entry.record.aliases.get(alias)?.version === manifest.version) }
}

/** Finds the content among the name's versions, or makes it the next one. */
async function makeVersion(
  publication: Publication,
  content: Content,
  { store, catalogue, now }: PublishDeps,
): Promise<{ readonly manifest: Manifest; readonly isNew: boolean }> {
  const { name, config, weights, expected, aliases = [DEFAULT_ALIAS] } = publication
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    await catalogue.refreshName(name)
    const entry = catalogue.entry(name) ?? makeEntry(name, new Map(), undefined)
    if (entry.fault !== undefined)
      throw new ServingError('adapter_unavailable', `adapter '${name}' cannot be published: ${entry.fault}`)
    needOwner(entry, content.tenant)
    const known = withDigest(entry, content.digest, {}).findLast((manifest) => isSame(manifest, content))
    if (known !== undefined) return { manifest: known, isNew: false }
    if (aliases[0] !== undefined) expectTarget(entry, aliases[0], expected)
    await keepBytes(store, content.digest)
    await putStoredAdapter(store, content.digest, { config, weights })
    await openRecord(entry, publication, catalogue, now())
    const version = Math.max(entry.record.lastVersion, 0, ...entry.versions.keys()) + 1
    const manifest: Manifest = { name, version, ...content, createdAt: now().toISOString() }
    try {
      await catalogue.add(manifest)
      return { manifest, isNew: true }
    } catch (error) {
      if (!(error instanceof ServingError && error.code === 'conflict')) throw error
    }
  }
  throw new ServingError('conflict', `adapter '${name}' is being published by too many at once: try again`)
}

/**
 * A name without a record means its highest version. Where a new version shall not be `latest`, the record that says so has to be
 * there before it.
 */
async function openRecord(entry: NameEntry, publication: Publication, catalogue: Catalogue, at: Date): Promise<void> {
  const { name, aliases = [DEFAULT_ALIAS], actor = theServer } = publication
  if (!isImplied(entry) || aliases.includes(DEFAULT_ALIAS)) return
  await catalogue.change(name, (now) => {
    if (!isImplied(now)) return undefined
    const event = { at: at.toISOString(), actor, action: 'name.open', subject: name, before: {}, after: {} }
    return { record: now.record, event }
  })
}

/** The record after a version was made or found: its aliases moved, unless they have been beyond it already. */
function publicationChange(
  entry: NameEntry,
  { manifest, isNew }: { readonly manifest: Manifest; readonly isNew: boolean },
  { aliases = [DEFAULT_ALIAS], expected, pin, actor = theServer }: Publication,
  at: Date,
): RecordChange | undefined {
  const { version, name, digest } = manifest
  // Somebody retired it since it was made: that was the later wish.
  if (entry.record.retired.has(version)) return undefined
  const before = withoutVersion(entry, version)
  let { record } = entry
  for (const [index, alias] of aliases.entries()) {
    const isMoving = (record.aliases.get(alias)?.reached ?? 0) < version
    if (index === 0 && (isMoving || isNew)) expectTarget(before, alias, expected)
    if (isMoving) record = withAlias({ ...entry, record }, alias, version)
  }
  if (pin !== undefined && record.isPinned !== pin) record = { ...record, isPinned: pin }
  const isWrittenDown = !isNew && !isImplied(entry) && entry.record.lastVersion >= version
  if (record === entry.record && isWrittenDown) return undefined
  const detail = (of: NameRecord) => ({
    aliases: Object.fromEntries(aliases.map((alias) => [alias, of.aliases.get(alias)?.version ?? 0])),
  })
  const after = { ...detail(record), version, digest, ...(pin === undefined ? {} : { isPinned: pin }) }
  return {
    record,
    event: { at: at.toISOString(), actor, action: 'publish', subject: name, before: detail(before.record), after },
  }
}

/** Whether the name has no record in the store. */
function isImplied({ record }: NameEntry): boolean {
  return record.lastEvent === undefined
}

/** Without a record `latest` means a new version as soon as it is there; this is the name as it was before. */
function withoutVersion(entry: NameEntry, version: number): NameEntry {
  if (!isImplied(entry)) return entry
  return makeEntry(entry.name, new Map([...entry.versions].filter(([number]) => number !== version)), undefined)
}

/** Whether a request would be answered alike. Metadata and source are the first publisher's. */
function isSame(manifest: Manifest, { digest, chatTemplate }: Content): boolean {
  return manifest.digest === digest && manifest.chatTemplate === chatTemplate
}

/** A name belongs to whom its versions belong to, or else somebody could put other weights under another's name. */
function needOwner({ name, versions }: NameEntry, tenant: string | undefined): void {
  if ([...versions.values()].every((manifest) => manifest.tenant === tenant)) return
  throw new ServingError('conflict', `the name '${name}' is taken: choose another`)
}

function checkWords({ aliases = [], metadata, chatTemplate = '' }: Publication): void {
  for (const alias of aliases) parseAlias(alias)
  if (Buffer.byteLength(chatTemplate) > limits.chatTemplateBytes) {
    throw new ServingError('too_large', `a chat template may have ${limits.chatTemplateBytes} bytes at most`)
  }
  const checked = metadataSchema.optional().safeParse(metadata)
  if (!checked.success) throw new ServingError('invalid_parameters', `metadata ${checked.error.issues[0]?.message}`)
}
