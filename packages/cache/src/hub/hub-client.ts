/** The few calls of the Hugging Face hub that a download needs, over @huggingface/hub, with its failures as ServingErrors. */
import {
  downloadFile,
  fileDownloadInfo,
  HUB_URL,
  HubApiError,
  listFiles,
  modelInfo,
  type PathInfo,
  pathsInfo,
} from '@huggingface/hub'
import { ServingError } from '@quiver/protocol'
import type { HubReference } from './hub-reference.ts'
import { stopped } from './sleep.ts'

export interface HubConfig {
  /** Base URL, as in HF_ENDPOINT; absent for the public hub. */
  readonly endpoint?: string
  /** As in HF_TOKEN. */
  readonly token?: string
  /** The cache of Python's huggingface_hub, `HF_HOME/hub`: complete snapshots in it are used, nothing is written there. */
  readonly cacheDir?: string
}

/** A file of a repository at a commit. */
export interface HubFile {
  readonly path: string
  readonly bytes: number
  /** What its content is checked against: sha256 of large files, git's sha1 over a blob of small ones. */
  readonly digest: { readonly kind: 'sha256' | 'git'; readonly hex: string }
}

/** One connection for the rest of a file. */
export interface OpenHubFile {
  /** Changes whenever the content does; opaque. */
  readonly etag: string
  readonly stream: ReadableStream<Uint8Array>
}

/** Of a file in the root folder: no separator, no `.` and `..`. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is kept out.
const PLAIN_NAME = /^(?!\.{1,2}$)[^/\\:\u0000-\u001f]{1,255}$/
/** More files than any model's root folder has. */
const MAX_FILES = 10_000

export class HubClient {
  readonly #endpoint: string
  readonly #fetch: typeof fetch
  readonly #signal: AbortSignal

  constructor(config: HubConfig, deps: { readonly fetch: typeof fetch; readonly signal: AbortSignal }) {
    this.#endpoint = (config.endpoint ?? HUB_URL).replace(/\/+$/, '')
    this.#signal = deps.signal
    this.#fetch = authorizedFetch(this.#endpoint, config.token, deps)
  }

  get endpoint(): string {
    return this.#endpoint
  }

  /** The commit that a branch or tag stands for now. @param signal gives up earlier than the client's own */
  async resolveCommit(reference: HubReference, signal: AbortSignal = this.#signal): Promise<string> {
    return await this.#call(reference, async () => {
      const { sha } = await modelInfo({
        name: reference.repo,
        revision: reference.revision,
        additionalFields: ['sha'],
        hubUrl: this.#endpoint,
        fetch: (url, init) => this.#fetch(url, { ...init, signal }),
      })
      if (typeof sha !== 'string' || !/^[0-9a-f]{40}$/.test(sha)) {
        throw new ServingError('source_unavailable', `the hub at ${this.#endpoint} gave no commit for ${reference.repo}`)
      }
      return sha
    })
  }

  /** The files of the root folder. What a hub lists under another name than a plain one never becomes a path on this machine. */
  async listFiles(repo: string, commit: string): Promise<HubFile[]> {
    return await this.#call({ repo, revision: commit }, async () => {
      const files: HubFile[] = []
      for await (const entry of listFiles({ repo, revision: commit, hubUrl: this.#endpoint, fetch: this.#fetch })) {
        if (entry.type !== 'file' || !PLAIN_NAME.test(entry.path)) continue
        if (files.length >= MAX_FILES) throw new ServingError('invalid_request', `${repo} has more than ${MAX_FILES} files`)
        files.push(toHubFile(entry))
      }
      return files
    })
  }

  /** Of the root folder's files those that are asked for, where they are there: one request, whatever else the repository holds. */
  async findFiles(repo: string, commit: string, paths: readonly string[]): Promise<HubFile[]> {
    return await this.#call({ repo, revision: commit }, async () => {
      const place = { repo, revision: commit, hubUrl: this.#endpoint, fetch: this.#fetch }
      const found = await pathsInfo({ ...place, paths: [...paths] })
      return found.flatMap((entry) => (entry.type === 'file' && paths.includes(entry.path) ? [toHubFile(entry)] : []))
    })
  }

  /**
   * The content of a file from byte `from` on, and what the hub calls this content. The stream fails, or ends early, where the
   * connection breaks.
   */
  async openFile(place: { repo: string; commit: string; file: HubFile; from: number }): Promise<OpenHubFile> {
    const { repo, commit, file, from } = place
    return await this.#call({ repo, revision: commit }, async () => {
      const where = { repo, path: file.path, revision: commit, hubUrl: this.#endpoint, fetch: this.#fetch }
      const found = await fileDownloadInfo(where)
      if (found === null) throw new ServingError('not_found', `${repo} has no file ${file.path} at ${commit}`)
      if (found.size !== file.bytes) {
        throw new ServingError(
          'source_unavailable',
          `${file.path} of ${repo} has ${found.size} bytes, but the hub lists ${file.bytes}`,
        )
      }
      // Not by the xet protocol: plain ranges resume at any byte and are what every mirror speaks.
      const blob = await downloadFile({ ...where, downloadInfo: found, xet: false })
      if (blob === null) throw new ServingError('not_found', `${repo} has no file ${file.path} at ${commit}`)
      return { etag: found.etag, stream: blob.slice(from, file.bytes).stream() as ReadableStream<Uint8Array> }
    })
  }

  async #call<T>(reference: HubReference, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (this.#signal.aborted) throw stopped()
      throw toHubError(error, reference, this.#endpoint)
    }
  }
}

function toHubFile({ path, size, oid = '', lfs }: Pick<PathInfo, 'path' | 'size' | 'oid' | 'lfs'>): HubFile {
  const digest = lfs === undefined ? { kind: 'git' as const, hex: oid } : { kind: 'sha256' as const, hex: lfs.oid }
  return { path, bytes: size, digest }
}

/** The token goes to the hub itself and to no host that it redirects to; and a server that ignores Range is not believed. */
function authorizedFetch(
  endpoint: string,
  token: string | undefined,
  deps: { fetch: typeof fetch; signal: AbortSignal },
): typeof fetch {
  const origin = new URL(endpoint).origin
  return async (input, init) => {
    const headers = new Headers(init?.headers)
    if (token !== undefined && new URL(input instanceof Request ? input.url : input).origin === origin) {
      headers.set('authorization', `Bearer ${token}`)
    }
    const response = await deps.fetch(input, { ...init, headers, signal: init?.signal ?? deps.signal })
    const range = headers.get('range')
    if (range !== null && !range.startsWith('bytes=0-') && response.status === 200) {
      await response.body?.cancel()
      throw new Error('the server ignored the range that was asked for')
    }
    return response
  }
}

function toHubError(error: unknown, { repo, revision }: HubReference, endpoint: string): ServingError {
  if (error instanceof ServingError) return error
  const where = `${repo} at ${revision} on the hub at ${endpoint}`
  if (error instanceof HubApiError) {
    switch (error.statusCode) {
      case 401:
        return new ServingError(
          'unauthenticated',
          `${where}: no access (401). It does not exist or is private: check the name, and set HF_TOKEN to a token that may read it`,
        )
      case 403:
        return new ServingError(
          'forbidden',
          `${where}: no access (403). Accept the model's terms on its page, and set HF_TOKEN to a token of that account`,
        )
      case 404:
        return new ServingError('not_found', `${where}: not found. Check the name and the revision`)
    }
    return new ServingError('source_unavailable', `${where}: the hub answered ${error.statusCode}`, {}, { cause: error })
  }
  return new ServingError('source_unavailable', `${where}: ${reasonOf(error)}`, {}, { cause: error })
}

/** fetch says only "fetch failed"; why is in its cause. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const cause = error.cause instanceof Error ? error.cause : undefined
  const code = cause !== undefined && 'code' in cause && typeof cause.code === 'string' ? cause.code : undefined
  return code ?? (cause === undefined || cause.message === '' ? error.message : cause.message)
}
