/**
 * Downloads one commit of a hub repository. Files arrive in `<commit>.partial/` as `<name>.part`, are resumed there by range after a
 * cut or a restart, get their name when size and digest are right, and the folder gets its own when all are there.
 */
import { createWriteStream } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm, stat, truncate } from 'node:fs/promises'
import path from 'node:path'
import {
  backoffMs,
  type HubClient,
  type HubFile,
  isTransient,
  MAX_FRUITLESS_ATTEMPTS,
  readWithin,
  reasonOf,
  sleep,
  stopped,
  withRetries,
} from '@quiver/cache/hub'
import { type Progress, ServingError } from '@quiver/protocol'
import type { LockDeps } from './download-lock.ts'
import { chooseFiles, chooseShards } from './hub-files.ts'
import { type Snapshot, writeManifest } from './hub-snapshot.ts'
import { parseShardIndex } from './safetensors-weights.ts'
import { throwIfStopped } from './sleep.ts'
import { gitBlobId, sha256OfFile } from './verified-file.ts'

/** Connections over which one file may come. */
const MAX_ATTEMPTS = 50
/** Times that a whole file is fetched anew because its digest was wrong. */
const MAX_WRONG_DIGESTS = 2
/** A connection that brings nothing for this long is broken. */
const STALL_MS = 60_000
const PROGRESS_STEP_BYTES = 1 << 20

export interface HubDeps extends LockDeps {
  readonly fetch: typeof fetch
  readonly onProgress: (progress: Progress) => void
}

/** One download of one commit; lives while the lock is held. */
export class RepoDownload {
  readonly #repo: string
  readonly #commit: string
  /** Of the whole repository. */
  readonly #folder: string
  readonly #partial: string
  readonly #client: HubClient
  readonly #deps: HubDeps
  #totalBytes = 0
  /** Bytes of files that are complete, and what was last reported. */
  #completeBytes = 0
  #reportedBytes = -1

  constructor(target: { repo: string; commit: string; folder: string }, client: HubClient, deps: HubDeps) {
    this.#repo = target.repo
    this.#commit = target.commit
    this.#folder = target.folder
    this.#partial = path.join(target.folder, `${target.commit}.partial`)
    this.#client = client
    this.#deps = deps
  }

  async run(): Promise<Snapshot> {
    const listed = await withRetries(this.#deps, () => this.#client.listFiles(this.#repo, this.#commit))
    const needed = chooseFiles(this.#repo, listed)
    await mkdir(this.#partial, { recursive: true })
    const files = [...needed.files]
    this.#totalBytes = sumBytes(files)
    if (needed.index !== undefined) {
      await this.#bring(needed.index)
      const index = path.join(this.#partial, needed.index.path)
      files.push(
        ...chooseShards(
          this.#repo,
          listed,
          parseShardIndex(await readFile(index, 'utf8'), `${this.#repo}: ${needed.index.path}`),
        ),
      )
      this.#totalBytes = sumBytes(files)
    }
    for (const file of files) {
      if (file !== needed.index) await this.#bring(file)
    }
    return await this.#complete(files)
  }

  async #complete(files: readonly HubFile[]): Promise<Snapshot> {
    const sha = await writeManifest(this.#partial, { repo: this.#repo, commit: this.#commit }, files)
    const target = path.join(this.#folder, this.#commit)
    // Only an incomplete folder can be in the way: a complete one would have been used.
    await rm(target, { recursive: true, force: true })
    await rename(this.#partial, target)
    for (const name of await readdir(this.#folder)) {
      if (name.endsWith('.partial')) await rm(path.join(this.#folder, name), { recursive: true, force: true })
    }
    return { path: target, sha }
  }

  /** Downloads one file unless an earlier attempt has. */
  async #bring(file: HubFile): Promise<void> {
    const target = path.join(this.#partial, file.path)
    if ((await sizeOrZero(target)) !== file.bytes || !(await this.#isRight(file, target))) {
      const part = `${target}.part`
      for (let wrong = 0; ; wrong++) {
        await this.#fill(file, part)
        if (await this.#isRight(file, part)) break
        await rm(part, { force: true })
        if (wrong >= MAX_WRONG_DIGESTS) {
          throw new ServingError(
            'source_unavailable',
            `${file.path} of ${this.#repo} does not have the ${file.digest.kind} digest ${file.digest.hex} that the hub lists: it was not used`,
          )
        }
      }
      await rename(part, target)
    }
    this.#completeBytes += file.bytes
    this.#report(0, true)
  }

  /** Appends to `part` until it has all bytes, over as many connections as it takes. */
  async #fill(file: HubFile, part: string): Promise<void> {
    let fruitless = 0
    for (let attempt = 1; ; attempt++) {
      let have = await sizeOrZero(part)
      if (have > file.bytes) {
        await truncate(part, 0)
        have = 0
      }
      if (have === file.bytes && have > 0) return
      let failure: unknown
      try {
        await this.#append(file, part, have)
      } catch (error) {
        if (this.#deps.signal.aborted) throw stopped()
        if (!isTransient(error)) throw error
        failure = error
      }
      const now = await sizeOrZero(part)
      if (now === file.bytes) return
      fruitless = now > have ? 0 : fruitless + 1
      if (fruitless >= MAX_FRUITLESS_ATTEMPTS || attempt >= MAX_ATTEMPTS) {
        throw new ServingError(
          'source_unavailable',
          `${file.path} of ${this.#repo} broke off ${attempt} times, at ${now} of ${file.bytes} bytes: ${reasonOf(failure ?? new Error('the connection was closed'))}`,
          {},
          { cause: failure },
        )
      }
      // A server that cannot give ranges gives nothing to a resumed request: begin again rather than never end.
      if (fruitless >= 2) await rm(part, { force: true })
      await sleep(this.#deps.timers, backoffMs(fruitless), this.#deps.signal)
    }
  }

  async #append(file: HubFile, part: string, from: number): Promise<void> {
    const output = createWriteStream(part, { flags: 'a' })
    const opened = new Promise<void>((resolve, reject) => output.once('open', () => resolve()).once('error', reject))
    try {
      await opened
      if (file.bytes === 0) return
      const { stream } = await this.#client.openFile({ repo: this.#repo, commit: this.#commit, file, from })
      let have = from
      for await (const chunk of readWithin(stream, STALL_MS, this.#deps)) {
        have += chunk.length
        if (have > file.bytes)
          throw new ServingError('source_unavailable', `${file.path} of ${this.#repo} is longer than the hub lists`)
        await new Promise<void>((resolve, reject) =>
          output.write(chunk, (error) => (error ? reject(diskError(part, error)) : resolve())),
        )
        this.#report(have, false)
      }
    } finally {
      await new Promise<void>((resolve) => output.close(() => resolve()))
    }
  }

  async #isRight(file: HubFile, location: string): Promise<boolean> {
    const { kind, hex } = file.digest
    const found =
      kind === 'sha256'
        ? await sha256OfFile(location, this.#deps.signal)
        : await gitBlobId(location, file.bytes, this.#deps.signal)
    throwIfStopped(this.#deps.signal)
    return found === hex
  }

  #report(ofThisFile: number, always: boolean): void {
    const done = Math.min(this.#totalBytes, this.#completeBytes + ofThisFile)
    if (!always && done - this.#reportedBytes < PROGRESS_STEP_BYTES) return
    this.#reportedBytes = done
    this.#deps.onProgress({ phase: 'download', label: this.#repo, done, total: this.#totalBytes, unit: 'bytes' })
  }
}

function diskError(file: string, error: Error): ServingError {
  return new ServingError('internal', `${file} could not be written: ${error.message}`, {}, { cause: error })
}

function sumBytes(files: readonly HubFile[]): number {
  return files.reduce((sum, file) => sum + file.bytes, 0)
}

async function sizeOrZero(file: string): Promise<number> {
  return (await stat(file).catch(() => undefined))?.size ?? 0
}
