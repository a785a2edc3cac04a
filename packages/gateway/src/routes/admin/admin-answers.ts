/** What the admin routes say of adapters. */
import { type AdapterPresence, assertNever } from '@quiver/protocol'
import type { Manifest } from '../../catalogue/manifest.ts'
import { isRetired, type NameEntry, type Viewer } from '../../catalogue/name-entry.ts'
import type { AliasTarget } from '../../catalogue/name-record.ts'
import type { Published } from '../../catalogue/publish.ts'
import type { WorkerAdapters } from '../../worker/worker-source.ts'

export function versionAnswer(manifest: Manifest) {
  const { version, digest, base, rank, modules, bytes, createdAt, tenant, metadata, source, chatTemplate } = manifest
  return {
    ...{ version, digest, base, rank, modules, bytes, created_at: createdAt },
    ...(tenant === undefined ? {} : { tenant }),
    ...(metadata === undefined ? {} : { metadata }),
    ...(source === undefined ? {} : { source }),
    has_chat_template: chatTemplate !== undefined,
  }
}

export function publishedAnswer({ manifest, aliases, isNew }: Published, entry: NameEntry | undefined) {
  const pinned = entry?.record.isPinned ?? false
  return { name: manifest.name, ...versionAnswer(manifest), aliases, pinned, is_new: isNew }
}

/** One line of the list. */
export function summaryAnswer(entry: NameEntry, viewer: Viewer) {
  const shown = shownVersions(entry, viewer)
  const latest = entry.record.aliases.get('latest')?.version
  return {
    name: entry.name,
    versions: shown.length,
    latest: shown.some(({ version }) => version === latest) ? (latest ?? null) : null,
    aliases: aliasAnswers(entry, viewer),
    pinned: entry.record.isPinned,
    retired: shown.every(({ version }) => isRetired(entry, version)),
    ...(entry.fault === undefined ? {} : { fault: entry.fault }),
  }
}

export function entryAnswer(entry: NameEntry, viewer: Viewer) {
  return {
    ...summaryAnswer(entry, viewer),
    versions: shownVersions(entry, viewer).map((manifest) => ({
      ...versionAnswer(manifest),
      retired: entry.record.retired.get(manifest.version)?.at ?? null,
    })),
  }
}

/** Versions that a viewer may know of, retired ones too, ascending. */
export function shownVersions({ versions }: NameEntry, { tenant }: Viewer): readonly Manifest[] {
  return [...versions.values()]
    .filter((manifest) => tenant === undefined || manifest.tenant === undefined || manifest.tenant === tenant)
    .sort((a, b) => a.version - b.version)
}

/** Where one adapter's weights are, worker by worker. */
export function residencyAnswer(reports: readonly WorkerAdapters[], manifest: Manifest) {
  return reports.map(({ workerId, adapters }) => {
    const presence = adapters.find(({ digest }) => digest === manifest.digest)
    return { worker: workerId, version: manifest.version, ...presenceAnswer(presence) }
  })
}

function presenceAnswer(presence: AdapterPresence | undefined) {
  if (presence === undefined) return { state: 'absent' as const }
  const { state, tier, bytes, leases, pinned, slot, cause, remainingMs } = presence
  switch (state) {
    case 'resident':
    case 'arriving':
      return { state, tier, bytes, leases, pinned, ...(slot === undefined ? {} : { slot }) }
    case 'quarantined':
      return { state, pinned, cause, remaining_ms: Math.round(remainingMs ?? 0) }
    default:
      return assertNever(state)
  }
}

function aliasAnswers(entry: NameEntry, viewer: Viewer) {
  const shown = new Set(shownVersions(entry, viewer).map(({ version }) => version))
  const seen = [...entry.record.aliases].filter(([, { version }]) => shown.has(version))
  return Object.fromEntries(seen.map(([alias, target]) => [alias, targetAnswer(target)]))
}

function targetAnswer({ version, previous, canary }: AliasTarget) {
  return {
    version,
    previous: [...previous],
    ...(canary === undefined ? {} : { canary: { version: canary.version, share_percent: canary.sharePercent } }),
  }
}
