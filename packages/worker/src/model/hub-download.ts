/** A model of the hub, pinned to a commit, on this machine. */
import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { HubClient, type HubConfig, type HubReference, isCommit, isTransient, withRetries } from '@quiver/cache/hub'
import { withDownloadLock } from './download-lock.ts'
import { findCachedSnapshot, findOwnSnapshot, lastCommit, rememberCommit, repoFolder, type Snapshot } from './hub-snapshot.ts'
import { type HubDeps, RepoDownload } from './repo-download.ts'

export interface HubSource {
  readonly modelsDir: string
  readonly hub: HubConfig
}

/** How long the hub is waited for where a copy of the model is here already. */
const REFRESH_MS = 10_000

/** What is on this machine of the revision, as it was when it was last asked for; without asking the hub. */
export async function findLocalCopy(reference: HubReference, source: HubSource): Promise<Snapshot | undefined> {
  const { modelsDir, hub } = source
  const commit = isCommit(reference.revision) ? reference.revision : await lastCommit(modelsDir, hub.cacheDir, reference)
  return commit === undefined ? undefined : await findCommit(reference.repo, commit, source)
}

async function findCommit(repo: string, commit: string, { modelsDir, hub }: HubSource): Promise<Snapshot | undefined> {
  return (await findOwnSnapshot(modelsDir, repo, commit)) ?? (await findCachedSnapshot(hub.cacheDir, repo, commit))
}

/**
 * The folder of the model at the revision's present commit, downloaded where it is not here. When the hub cannot be reached, what
 * the revision stood for last time is used.
 * @throws ServingError `unauthenticated`, `forbidden`, `not_found`, `invalid_request` or `source_unavailable`, naming repository and hub
 */
export async function downloadFromHub(reference: HubReference, source: HubSource, deps: HubDeps): Promise<Snapshot> {
  const client = new HubClient(source.hub, deps)
  const commit = await currentCommit(reference, client, source, deps)
  const snapshot =
    (await findCommit(reference.repo, commit, source)) ?? (await downloadCommit(reference.repo, commit, client, source, deps))
  // Only now: a start without network falls back to what is complete, not to what the hub has moved on to.
  if (!isCommit(reference.revision)) await rememberCommit(source.modelsDir, reference, commit, deps.uniqueId)
  return snapshot
}

async function downloadCommit(
  repo: string,
  commit: string,
  client: HubClient,
  source: HubSource,
  deps: HubDeps,
): Promise<Snapshot> {
  const folder = repoFolder(source.modelsDir, repo)
  await mkdir(folder, { recursive: true })
  const label = `${repo} (another process is downloading it)`
  const onWait = () => deps.onProgress({ phase: 'download', label, done: 0, total: 0, unit: 'bytes' })
  return await withDownloadLock(path.join(folder, 'download.lock'), { ...deps, onWait }, async () => {
    const arrived = await findOwnSnapshot(source.modelsDir, repo, commit)
    return arrived ?? (await new RepoDownload({ repo, commit, folder }, client, deps).run())
  })
}

async function currentCommit(reference: HubReference, client: HubClient, source: HubSource, deps: HubDeps): Promise<string> {
  if (isCommit(reference.revision)) return reference.revision
  if ((await findLocalCopy(reference, source)) === undefined) {
    return await withRetries(deps, () => client.resolveCommit(reference))
  }
  const giveUp = new AbortController()
  const cancel = deps.timers.after(REFRESH_MS, () => giveUp.abort())
  try {
    return await client.resolveCommit(reference, AbortSignal.any([deps.signal, giveUp.signal]))
  } catch (error) {
    const known = await lastCommit(source.modelsDir, source.hub.cacheDir, reference)
    if (known === undefined || !isTransient(error)) throw error
    return known
  } finally {
    cancel()
  }
}
