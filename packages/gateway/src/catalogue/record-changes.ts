/** What can be done to a name's record. Pure: each takes the name as it is and gives its new record, or says why it cannot be. */
import { ServingError } from '@quiver/protocol'
import { parseAlias } from './adapter-reference.ts'
import { isRetired, type NameEntry } from './name-entry.ts'
import { type AliasTarget, limitsOfRecord, type NameRecord, type Tombstone } from './name-record.ts'

/** @throws ServingError `conflict` unless the alias names the version that the caller believes it does (0: none) */
export function expectTarget({ name, record }: NameEntry, alias: string, expected: number | undefined): void {
  const version = record.aliases.get(alias)?.version ?? 0
  if (expected === undefined || expected === version) return
  const now = version === 0 ? 'does not exist' : `names version ${version}`
  throw new ServingError('conflict', `alias '${alias}' of adapter '${name}' ${now}, not ${expected}: look again, then decide`)
}

/**
 * The record with an alias on a version. A move ends the alias's canary.
 * @throws ServingError `adapter_not_found` for a version that is not served, `invalid_request` for what is no alias or one too many
 */
export function withAlias(entry: NameEntry, alias: string, version: number): NameRecord {
  parseAlias(alias)
  needServed(entry, version)
  const { record } = entry
  const known = record.aliases.get(alias)
  if (known?.version === version && known.canary === undefined) return record
  if (known === undefined && record.aliases.size >= limitsOfRecord.aliases) {
    throw new ServingError(
      'invalid_request',
      `adapter '${entry.name}' has ${record.aliases.size} aliases already: remove one first`,
    )
  }
  const previous = known === undefined || known.version === version ? (known?.previous ?? []) : [...known.previous, known.version]
  return setTarget(record, alias, {
    version,
    previous: previous.slice(-limitsOfRecord.previous),
    reached: Math.max(version, known?.reached ?? 0),
  })
}

/** @throws ServingError `not_found` when there is no such alias */
export function withoutAlias(entry: NameEntry, alias: string): NameRecord {
  targetOf(entry, alias)
  const aliases = new Map(entry.record.aliases)
  aliases.delete(alias)
  return { ...entry.record, aliases }
}

/**
 * The record with an alias back on what it named before the last move, passing over versions that are gone.
 * @throws ServingError `not_found` when there is no such alias, `conflict` when it has nothing to go back to
 */
export function rolledBack(entry: NameEntry, alias: string): NameRecord {
  const target = targetOf(entry, alias)
  const at = target.previous.findLastIndex((version) => version !== target.version && isServedVersion(entry, version))
  const version = target.previous[at]
  if (version === undefined) {
    throw new ServingError('conflict', `alias '${alias}' of adapter '${entry.name}' has no earlier version to go back to`)
  }
  return setTarget(entry.record, alias, { version, previous: target.previous.slice(0, at), reached: target.reached })
}

/**
 * The record with a share of an alias's requests on another version, or with none.
 * @throws ServingError `not_found` without the alias, `adapter_not_found` for a version that is not served, `invalid_parameters`
 */
export function withCanary(entry: NameEntry, alias: string, canary: AliasTarget['canary']): NameRecord {
  const { canary: _, ...target } = targetOf(entry, alias)
  if (canary === undefined) return setTarget(entry.record, alias, target)
  const { version, sharePercent } = canary
  needServed(entry, version)
  if (!(sharePercent > 0 && sharePercent < 100)) {
    throw new ServingError(
      'invalid_parameters',
      `a canary's share must be more than 0 and less than 100 percent, not ${sharePercent}`,
    )
  }
  if (version === target.version) {
    throw new ServingError('invalid_parameters', `alias '${alias}' names version ${version} already: a canary is another version`)
  }
  return setTarget(entry.record, alias, { ...target, canary: { version, sharePercent } })
}

export function withPin({ record }: NameEntry, isPinned: boolean): NameRecord {
  return record.isPinned === isPinned ? record : { ...record, isPinned }
}

/**
 * The record without one version, or without all that there are. What is published later is served again.
 * @throws ServingError `adapter_not_found` for a version that there is not, `conflict` for a single one that an alias names
 */
export function withRetired(entry: NameEntry, version: number | undefined, at: string): NameRecord {
  const { name, record, versions } = entry
  if (version !== undefined) {
    if (!versions.has(version)) throw unknownVersion(entry, version)
    const holder = [...record.aliases].find(([, target]) => target.version === version || target.canary?.version === version)
    if (holder !== undefined && !isRetired(entry, version)) {
      throw new ServingError('conflict', `alias '${holder[0]}' names version ${version} of adapter '${name}': move it first`)
    }
  }
  const leaving = [...versions.keys()].filter((one) => (version === undefined || one === version) && !record.retired.has(one))
  if (leaving.length === 0) return record
  const retired = new Map<number, Tombstone>([...record.retired, ...leaving.map((one): [number, Tombstone] => [one, { at }])])
  return { ...record, retired, isPinned: version === undefined ? false : record.isPinned }
}

/**
 * The record with retired versions back in service: one, or all whose bytes are still there.
 * @throws ServingError `adapter_not_found` for a version that there is not, `conflict` for one whose bytes are being collected
 */
export function withRestored(entry: NameEntry, version: number | undefined): NameRecord {
  const { name, record, versions } = entry
  if (version !== undefined && !versions.has(version)) throw unknownVersion(entry, version)
  if (version !== undefined && record.retired.get(version)?.isCollected === true) {
    throw new ServingError('conflict', `version ${version} of adapter '${name}' is being deleted: publish it again`)
  }
  const staying = [...record.retired].filter(
    ([one, tombstone]) => tombstone.isCollected === true || (version !== undefined && one !== version) || !versions.has(one),
  )
  return staying.length === record.retired.size ? record : { ...record, retired: new Map(staying) }
}

function isServedVersion(entry: NameEntry, version: number): boolean {
  return entry.versions.has(version) && !isRetired(entry, version)
}

function needServed(entry: NameEntry, version: number): void {
  if (!isServedVersion(entry, version)) throw unknownVersion(entry, version)
}

function unknownVersion({ name, versions, record }: NameEntry, version: number): ServingError {
  const there = [...versions.keys()].filter((one) => !record.retired.has(one)).sort((a, b) => a - b)
  const offer = there.length === 0 ? 'None of its versions is served.' : `Its highest is ${there.at(-1)}.`
  return new ServingError('adapter_not_found', `Adapter '${name}' has no version ${version} that is served. ${offer}`)
}

function targetOf({ name, record }: NameEntry, alias: string): AliasTarget {
  const target = record.aliases.get(alias)
  if (target === undefined) throw new ServingError('not_found', `adapter '${name}' has no alias '${alias.slice(0, 80)}'`)
  return target
}

function setTarget(record: NameRecord, alias: string, target: AliasTarget): NameRecord {
  return { ...record, aliases: new Map([...record.aliases, [alias, target]]) }
}
