/**
 * Deletes what nobody can ask for any more: manifests of versions that were retired long enough ago, then the bytes that no
 * manifest refers to. See `condemned.ts` for why bytes go in two steps. May be stopped anywhere and run by several gateways.
 */
import { type ObjectStore, storedAdapterKeys } from '@quiver/cache/store'
import { type AdapterDigest, type Logger, parseAdapterDigest, ServingError } from '@quiver/protocol'
import { theServer } from './audit-event.ts'
import type { Catalogue } from './catalogue.ts'
import { CONDEMNED_PREFIX, type Condemned, condemnedKey, encodeCondemned, readCondemned } from './condemned.ts'
import type { NameEntry } from './name-entry.ts'
import type { AliasTarget, NameRecord, Tombstone } from './name-record.ts'

const ADAPTERS_PREFIX = 'adapters/sha256/'

export interface CollectDeps {
  readonly store: ObjectStore
  readonly catalogue: Catalogue
  readonly now: () => Date
  readonly log: Logger
  /** How long a retired version can be restored, and how long bytes stay that no version refers to. More than a publication takes. */
  readonly graceMs: number
}

export interface CollectReport {
  readonly versions: number
  readonly condemned: number
  readonly deleted: number
}

/** @throws ServingError `source_unavailable`; what was done until then is done */
export async function collectGarbage(deps: CollectDeps): Promise<CollectReport> {
  const { catalogue, log } = deps
  await catalogue.refresh()
  let versions = 0
  for (const entry of [...catalogue.entries()]) versions += await collectVersions(entry, deps)
  if (catalogue.problems().length > 0) {
    // One of them may be the manifest that refers to bytes which look as if nobody did.
    log('warn', 'no bytes are collected while the catalogue has objects that cannot be read', {
      problems: catalogue.problems().length,
    })
    return { versions, condemned: 0, deleted: 0 }
  }
  const bytes = await collectBytes(deps)
  return { versions, ...bytes }
}

/**
 * First the tombstones say that their versions cannot come back, then the manifests go, then the tombstones. @returns how many
 */
async function collectVersions({ name, fault, record, versions }: NameEntry, deps: CollectDeps): Promise<number> {
  const { catalogue, now, graceMs } = deps
  if (fault !== undefined) return 0
  const isDue = ({ at, isCollected }: Tombstone) => isCollected === true || now().getTime() - new Date(at).getTime() >= graceMs
  if (![...record.retired.values()].some(isDue)) return 0
  const at = now().toISOString()
  const marked = await catalogue.change(name, (entry) => {
    const due = [...entry.record.retired].filter(([, tombstone]) => isDue(tombstone) && tombstone.isCollected !== true)
    if (due.length === 0) return undefined
    const dying = due.map(([version, tombstone]): [number, Tombstone] => [version, { ...tombstone, isCollected: true }])
    const retired = new Map([...entry.record.retired, ...dying])
    const after = { versions: due.map(([version]) => version) }
    return {
      record: { ...entry.record, retired },
      event: { at, actor: theServer, action: 'version.collect', subject: name, before: {}, after },
    }
  })
  const dying = [...marked.record.retired].filter(([, tombstone]) => tombstone.isCollected === true).map(([version]) => version)
  for (const version of dying) await catalogue.remove(name, version)
  await catalogue.change(name, (entry) => {
    const gone = new Set([...entry.record.retired.keys()].filter((version) => dying.includes(version)))
    if (gone.size === 0) return undefined
    const event = { at, actor: theServer, action: 'version.collected', subject: name, before: {}, after: { versions: [...gone] } }
    return { record: without(entry.record, gone), event }
  })
  return dying.filter((version) => versions.has(version)).length
}

/** A record without any mention of versions that are gone, but for the number that none may have again. */
function without(record: NameRecord, gone: ReadonlySet<number>): NameRecord {
  const aliases = [...record.aliases].flatMap(([alias, target]): [string, AliasTarget][] => {
    if (gone.has(target.version)) return []
    const { canary, ...rest } = target
    const kept = canary === undefined || gone.has(canary.version) ? {} : { canary }
    return [[alias, { ...rest, previous: target.previous.filter((version) => !gone.has(version)), ...kept }]]
  })
  const retired = [...record.retired].filter(([version]) => !gone.has(version))
  return { ...record, aliases: new Map(aliases), retired: new Map(retired) }
}

async function collectBytes(deps: CollectDeps): Promise<{ readonly condemned: number; readonly deleted: number }> {
  const { store, catalogue } = deps
  const stored = new Set<AdapterDigest>()
  for await (const { key } of store.list(ADAPTERS_PREFIX)) {
    const digest = digestOf(key.split('/')[3])
    if (digest !== undefined) stored.add(digest)
  }
  let condemned = 0
  let deleted = 0
  const used = usedDigests(catalogue)
  for (const digest of stored) {
    if (used.has(digest)) continue
    const outcome = await judge(digest, deps)
    if (outcome === 'condemned') condemned += 1
    else if (outcome === 'deleted') deleted += 1
  }
  for await (const { key } of store.list(CONDEMNED_PREFIX)) {
    const digest = digestOf(key.slice(CONDEMNED_PREFIX.length, -'.json'.length))
    if (digest === undefined || (stored.has(digest) && !used.has(digest))) continue
    await pardon(key, store)
  }
  return { condemned, deleted }
}

/** One step on the way of bytes that no manifest refers to. */
async function judge(digest: AdapterDigest, deps: CollectDeps): Promise<'condemned' | 'deleted' | 'waits'> {
  const { store, catalogue, now, graceMs } = deps
  const key = condemnedKey(digest)
  const found = await readCondemned(store, key)
  const sentence = (state: Condemned['state']) => encodeCondemned({ state, since: now().toISOString() })
  if (found === undefined)
    return (await wins(store.put(key, sentence('condemned'), { ifNoneMatch: '*' }))) ? 'condemned' : 'waits'
  const { condemned, etag } = found
  if (condemned.state === 'kept') {
    return (await wins(store.put(key, sentence('condemned'), { ifMatch: etag }))) ? 'condemned' : 'waits'
  }
  // Also a deletion that somebody began and did not end is taken over only when it is as old: two would not be in step.
  if (now().getTime() - new Date(condemned.since).getTime() < graceMs) return 'waits'
  if (!(await wins(store.put(key, sentence('deleting'), { ifMatch: etag })))) return 'waits'
  await catalogue.refresh()
  if (!usedDigests(catalogue).has(digest) && catalogue.problems().length === 0) {
    // The config first: where it is, whoever finds it expects the weights too.
    const { config, weights } = storedAdapterKeys(digest)
    await store.delete(config)
    await store.delete(weights)
    await store.delete(key)
    return 'deleted'
  }
  await store.delete(key)
  return 'waits'
}

/** Removes a sentence over bytes that are used again or are gone, unless somebody is about to carry it out. */
async function pardon(key: string, store: ObjectStore): Promise<void> {
  const found = await readCondemned(store, key)
  if (found === undefined || found.condemned.state === 'deleting') return
  await store.delete(key)
}

/** Retired versions count: they can be restored until their manifests are gone. */
function usedDigests(catalogue: Catalogue): ReadonlySet<AdapterDigest> {
  return new Set([...catalogue.entries()].flatMap(({ versions }) => [...versions.values()].map(({ digest }) => digest)))
}

async function wins(put: Promise<unknown>): Promise<boolean> {
  try {
    await put
    return true
  } catch (error) {
    if (error instanceof ServingError && (error.code === 'conflict' || error.code === 'not_found')) return false
    throw error
  }
}

function digestOf(text: string | undefined): AdapterDigest | undefined {
  try {
    return parseAdapterDigest(text ?? '')
  } catch {
    return undefined
  }
}
