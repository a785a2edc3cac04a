/**
 * Models of the hub that are on this machine already. Two places are known:
 * - ours, `<modelsDir>/hub/<org>--<name>/<commit>/`: complete when `quiver-model.json` lies in it, which is written last; the branch
 *   or tag that led to a commit is kept in `refs/`, so that a start without network finds what the last start used;
 * - the cache of Python's huggingface_hub (`models--org--name/refs/<revision>` and `snapshots/<commit>/`): used where everything
 *   needed is there. It is only read: that library owns it.
 */
import { createHash } from 'node:crypto'
import { mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { type HubFile, type HubReference, isCommit } from '@quiver/cache/hub'
import { z } from 'zod'
import { hfFiles } from './hf-folder.ts'
import { parseShardIndex, shardIndexFile, singleWeightsFile } from './safetensors-weights.ts'

export interface Snapshot {
  /** The folder, as `openLocalModel` takes it. */
  readonly path: string
  /** Digest of the content where it was verified. */
  readonly sha?: string
}

export const manifestFile = 'quiver-model.json'
const manifestSchema = z.object({
  repo: z.string(),
  commit: z.string(),
  sha: z.string().regex(/^[0-9a-f]{64}$/),
  files: z.array(z.object({ path: z.string(), bytes: z.int().nonnegative() })).nonempty(),
})

/** Where everything of one repository lies. */
export function repoFolder(modelsDir: string, repo: string): string {
  return path.join(modelsDir, 'hub', repo.replace('/', '--'))
}

/** @returns the folder of a commit when all its files are there in full */
export async function findOwnSnapshot(modelsDir: string, repo: string, commit: string): Promise<Snapshot | undefined> {
  const folder = path.join(repoFolder(modelsDir, repo), commit)
  const text = await readFile(path.join(folder, manifestFile), 'utf8').catch(() => undefined)
  if (text === undefined) return undefined
  const manifest = manifestSchema.safeParse(parseJson(text))
  if (!manifest.success) return undefined
  for (const file of manifest.data.files) {
    if ((await sizeOf(path.join(folder, file.path))) !== file.bytes) return undefined
  }
  return { path: folder, sha: manifest.data.sha }
}

/** Marks a folder as complete. */
export async function writeManifest(
  folder: string,
  reference: { repo: string; commit: string },
  files: readonly HubFile[],
): Promise<string> {
  const sorted = files.toSorted((a, b) => (a.path < b.path ? -1 : 1))
  const hash = createHash('sha256')
  for (const { path: name, digest } of sorted) hash.update(`${name}\0${digest.kind}\0${digest.hex}\n`)
  const sha = hash.digest('hex')
  const manifest = { ...reference, sha, files: sorted.map(({ path: name, bytes }) => ({ path: name, bytes })) }
  await writeFile(path.join(folder, manifestFile), `${JSON.stringify(manifest, null, 1)}\n`)
  return sha
}

/** The commit that a branch or tag led to when it was last asked for here, or by Python's huggingface_hub. */
export async function lastCommit(
  modelsDir: string,
  cacheDir: string | undefined,
  reference: HubReference,
): Promise<string | undefined> {
  const places = [refFile(modelsDir, reference)]
  if (cacheDir !== undefined) places.push(path.join(cacheDir, cacheName(reference.repo), 'refs', reference.revision))
  for (const place of places) {
    const commit = (await readFile(place, 'utf8').catch(() => '')).trim()
    if (isCommit(commit)) return commit
  }
  return undefined
}

export async function rememberCommit(
  modelsDir: string,
  reference: HubReference,
  commit: string,
  uniqueId: () => string,
): Promise<void> {
  const file = refFile(modelsDir, reference)
  await mkdir(path.dirname(file), { recursive: true })
  const temporary = `${file}.${uniqueId()}`
  await writeFile(temporary, commit)
  await rename(temporary, file)
}

/** @returns a snapshot of Python's huggingface_hub when it has all files that the model needs */
export async function findCachedSnapshot(
  cacheDir: string | undefined,
  repo: string,
  commit: string,
): Promise<Snapshot | undefined> {
  if (cacheDir === undefined) return undefined
  const folder = path.join(cacheDir, cacheName(repo), 'snapshots', commit)
  for (const name of [hfFiles.config, hfFiles.tokenizer]) {
    if ((await sizeOf(path.join(folder, name))) === undefined) return undefined
  }
  if ((await sizeOf(path.join(folder, singleWeightsFile))) !== undefined) return { path: folder }
  const index = await readFile(path.join(folder, shardIndexFile), 'utf8').catch(() => undefined)
  if (index === undefined) return undefined
  for (const shard of new Set(parseShardIndex(index, path.join(folder, shardIndexFile)).values())) {
    if ((await sizeOf(path.join(folder, shard))) === undefined) return undefined
  }
  return { path: folder }
}

function cacheName(repo: string): string {
  return `models--${repo.replace('/', '--')}`
}

function refFile(modelsDir: string, { repo, revision }: HubReference): string {
  return path.join(repoFolder(modelsDir, repo), 'refs', encodeURIComponent(revision))
}

async function sizeOf(file: string): Promise<number | undefined> {
  const found = await stat(file).catch(() => undefined)
  return found?.isFile() ? found.size : undefined
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined // A damaged manifest is no manifest: the folder counts as incomplete.
  }
}
