/**
 * One drop from its files to a version that is served, or to a refusal. The same job may be run any number of times, at once and
 * on several gateways, and may be stopped anywhere:
 *
 * - until the manifest is there nothing is promised, and the job begins anew;
 * - the manifest is written once for a content, so that a job that comes again finds its version;
 * - `_PUBLISHED.json` comes after it, and the drop's files go after that, under `_CLEARING.json`.
 */
import type { ObjectStore } from '@quiver/cache/store'
import { type AdapterDigest, type Logger, parseAdapterDigest, ServingError, toServingError } from '@quiver/protocol'
import type { Catalogue } from '../catalogue/catalogue.ts'
import { type Published, publishAdapter } from '../catalogue/publish.ts'
import type { TimerClock } from '../clock.ts'
import type { WorkerSource } from '../worker/worker-source.ts'
import { clearDrop, removeUnchanged } from './drop-clearing.ts'
import { CLEARING, type Drop, dropFolder, dropId, inputsOf, isComplete, READY, REJECTED, readDrop } from './drop-folder.ts'
import { type Bases, type DropContent, isRefusal, Rejection, readContent, Superseded } from './drop-reading.ts'
import { type PublishedNote, readClearing, readRejected, writePublished, writeRejected } from './drop-result.ts'

/** How long workers may take to load what shall be prewarmed, before the drop is published without. */
const PREWARM_MS = 20_000

/** Which drop, as it was found. */
export interface DropWork {
  /** `dropId` of what was found. */
  readonly id: string
  readonly name: string
}

export type DropOutcome =
  | { readonly outcome: 'published'; readonly version: number; readonly digest: AdapterDigest }
  | { readonly outcome: 'rejected'; readonly reasons: readonly string[] }
  | { readonly outcome: 'superseded' }

export interface DropJobDeps {
  readonly store: ObjectStore
  readonly catalogue: Catalogue
  /** What adapters must fit now. */
  readonly bases: Bases
  /** Absent: nobody to load what shall be prewarmed. */
  readonly workers?: Pick<WorkerSource, 'order'> | undefined
  /** The store's address, for people: `s3://bucket/prefix`. */
  readonly address: string
  readonly now: () => Date
  readonly clock: TimerClock
  readonly log: Logger
}

/**
 * @returns what came of it, when that is written down in the store
 * @throws ServingError `source_unavailable`, `conflict` and others that pass: to be tried again
 */
export async function runDropJob({ id, name }: DropWork, deps: DropJobDeps, signal: AbortSignal): Promise<DropOutcome> {
  const { store } = deps
  const drop = await readDrop(store, name)
  const begun = drop.files.has(CLEARING) ? (await readClearing(store, name)).note : undefined
  if (begun?.name === name) return await finish(begun, deps)
  if (!isComplete(drop) || dropId(drop) !== id) return { outcome: 'superseded' }
  if (!drop.files.has(READY) && drop.files.has(REJECTED)) {
    const { note } = await readRejected(store, name)
    if (note?.job === id) return { outcome: 'rejected', reasons: note.reasons }
  }
  try {
    const content = await readContent(store, drop, deps.bases, signal)
    return await publish(drop, content, deps, signal)
  } catch (thrown) {
    if (thrown instanceof Superseded) return { outcome: 'superseded' }
    if (thrown instanceof Rejection) return await reject(drop, thrown.reasons, deps)
    if (isRefusal(thrown)) return await reject(drop, [thrown], deps)
    throw thrown
  }
}

async function publish(drop: Drop, content: DropContent, deps: DropJobDeps, signal: AbortSignal): Promise<DropOutcome> {
  const { store, catalogue, address, now, log } = deps
  const { name, options, ...files } = content
  const { prewarm, base: _, ...wishes } = options
  await catalogue.refreshName(name)
  const versions = [...(catalogue.entry(name)?.versions.values() ?? [])]
  if (versions.some(({ tenant }) => tenant !== wishes.tenant)) {
    throw new Rejection([new ServingError('conflict', `the name '${name}' is taken: choose another`)])
  }
  const revision = drop.files.get('adapter_model.safetensors')?.etag
  const source = { type: 'drop', uri: `${address.replace(/\/$/, '')}/${dropFolder(name)}`, revision }
  const published = await publishAdapter({ name, ...files, ...wishes, source }, { store, catalogue, now })
  const { manifest, isNew } = published
  log('info', `adapter '${name}' version ${manifest.version} was published from the drop folder`, {
    ...{ digest: manifest.digest, isNew: String(isNew) },
  })
  const failure = prewarm === true ? await warm(manifest, deps, signal) : undefined
  const note = noteOf(drop, published, { now, prewarm: failure })
  await writePublished(store, note)
  return await finish(note, deps)
}

async function finish(note: PublishedNote, { store }: DropJobDeps): Promise<DropOutcome> {
  await clearDrop(store, note)
  return { outcome: 'published', version: note.version, digest: parseAdapterDigest(note.digest) }
}

async function reject(drop: Drop, reasons: readonly ServingError[], { store, now, log }: DropJobDeps): Promise<DropOutcome> {
  const texts = reasons.map(({ message }) => message)
  const code = reasons[0]?.code ?? 'adapter_invalid'
  await writeRejected(store, { ...about(drop, now), code, reasons: texts })
  // It stood for this upload; beside it the next one would count as complete after its first file.
  await removeUnchanged(store, drop.files.get(READY))
  log('warn', `the drop '${drop.name}' was rejected: ${texts.join('; ')}`, { code })
  return { outcome: 'rejected', reasons: texts }
}

/** @returns why it could not be loaded; that keeps nothing from being published */
async function warm(
  { name, digest, base }: Published['manifest'],
  { workers, clock, log }: DropJobDeps,
  signal: AbortSignal,
): Promise<string | undefined> {
  const patience = new AbortController()
  const stop = clock.after(PREWARM_MS, () =>
    patience.abort(new ServingError('deadline_exceeded', `it was not loaded within ${PREWARM_MS} ms`)),
  )
  try {
    await workers?.order(
      'prefetch',
      { adapter: { kind: 'registered', name, digest }, base },
      AbortSignal.any([patience.signal, signal]),
    )
    return undefined
  } catch (thrown) {
    const { message } = toServingError(thrown)
    log('warn', `adapter '${name}' could not be loaded ahead: ${message}`, { digest })
    return message
  } finally {
    stop()
  }
}

function noteOf(
  drop: Drop,
  { manifest, aliases }: Published,
  { now, prewarm }: { readonly now: () => Date; readonly prewarm: string | undefined },
): PublishedNote {
  const { version, digest, rank, modules, bytes } = manifest
  return {
    ...about(drop, now),
    ...{ version, digest, rank, modules: [...modules], bytes, aliases: [...aliases] },
    ...(prewarm === undefined ? {} : { prewarm }),
  }
}

function about(drop: Drop, now: () => Date) {
  const files = Object.fromEntries(inputsOf(drop).map(([name, { etag }]) => [name, etag]))
  return { job: dropId(drop), name: drop.name, files, at: now().toISOString() }
}
