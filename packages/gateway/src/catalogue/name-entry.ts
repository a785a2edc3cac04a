/** Everything that is known of one name, and what its references mean. Pure: an entry is replaced as a whole when it changes. */
import type { AdapterName } from '@quiver/protocol'
import { type AdapterReference, DEFAULT_ALIAS } from './adapter-reference.ts'
import { isInCanary } from './canary.ts'
import type { Manifest } from './manifest.ts'
import { impliedRecord, type NameRecord } from './name-record.ts'

export interface NameEntry {
  readonly name: AdapterName
  /** Those whose manifest is in the store, retired ones too. */
  readonly versions: ReadonlyMap<number, Manifest>
  /** Where the store has none, what it would say. */
  readonly record: NameRecord
  /** Why the record cannot be read. Until it can, nobody knows what is retired or what an alias names: nothing is served. */
  readonly fault?: string | undefined
  /** To whom a version that is not retired is visible: to everybody (undefined), or to these tenants alone. */
  readonly audience: ReadonlySet<string> | undefined
}

/** Of all who ask, the server's own operators see everything: they have no tenant. */
export interface Viewer {
  readonly tenant?: string | undefined
}

export interface Found {
  readonly manifest: Manifest
  /** By which alias, if by one. */
  readonly alias?: string | undefined
  readonly isCanary: boolean
}

export function makeEntry(
  name: AdapterName,
  versions: ReadonlyMap<number, Manifest>,
  record: NameRecord | undefined,
  fault?: string,
): NameEntry {
  const known = record ?? impliedRecord(name, versions)
  const live = [...versions.values()].filter(({ version }) => !known.retired.has(version))
  const isPublic = live.some(({ tenant }) => tenant === undefined)
  const audience = isPublic ? undefined : new Set(live.flatMap(({ tenant }) => tenant ?? []))
  return { name, versions, record: known, audience, ...(fault === undefined ? {} : { fault }) }
}

/** Whether anything of the name is served to the viewer. */
export function isServed({ audience }: NameEntry, { tenant }: Viewer): boolean {
  if (audience === undefined) return true
  return tenant === undefined ? audience.size > 0 : audience.has(tenant)
}

export function isRetired({ record }: NameEntry, version: number): boolean {
  return record.retired.has(version)
}

/**
 * The version that a reference means to a viewer now. By number and alias in constant time, by digest in the number of versions.
 * @param user who asks, for the canary of an alias; without one, the alias's own version answers
 */
export function find(
  entry: NameEntry,
  wanted: AdapterReference['version'],
  viewer: Viewer,
  user: string | undefined,
): Found | undefined {
  switch (wanted.kind) {
    case 'number':
      return found(served(entry, wanted.number, viewer))
    case 'digest':
      return found(withDigest(entry, wanted.digest, viewer).at(-1))
    case 'alias':
      return aliased(entry, wanted.alias, viewer, user)
  }
}

/** The versions served to a viewer that have these weights, ascending. */
export function withDigest(entry: NameEntry, digest: string, viewer: Viewer): readonly Manifest[] {
  return [...entry.versions.values()]
    .filter((manifest) => manifest.digest === digest && served(entry, manifest.version, viewer) !== undefined)
    .sort((a, b) => a.version - b.version)
}

function aliased(entry: NameEntry, alias: string, viewer: Viewer, user: string | undefined): Found | undefined {
  const target = entry.record.aliases.get(alias)
  if (target === undefined) return undefined
  const { canary } = target
  if (canary !== undefined && user !== undefined && isInCanary(entry.name, user, canary.sharePercent)) {
    const manifest = served(entry, canary.version, viewer)
    if (manifest !== undefined) return { manifest, alias, isCanary: true }
  }
  const manifest = served(entry, target.version, viewer)
  if (manifest !== undefined) return { manifest, alias, isCanary: false }
  // What another tenant keeps private does not exist: the latest is the latest of what does.
  const isHidden = entry.versions.has(target.version) && !isRetired(entry, target.version)
  if (alias !== DEFAULT_ALIAS || !isHidden) return undefined
  const visible = [...entry.versions.keys()].sort((a, b) => b - a).find((version) => served(entry, version, viewer) !== undefined)
  return found(visible === undefined ? undefined : entry.versions.get(visible), alias)
}

function served(entry: NameEntry, version: number, { tenant }: Viewer): Manifest | undefined {
  const manifest = entry.versions.get(version)
  if (manifest === undefined || isRetired(entry, version)) return undefined
  return tenant === undefined || manifest.tenant === undefined || manifest.tenant === tenant ? manifest : undefined
}

function found(manifest: Manifest | undefined, alias?: string): Found | undefined {
  return manifest === undefined ? undefined : { manifest, alias, isCanary: false }
}
