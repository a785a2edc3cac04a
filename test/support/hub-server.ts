/**
 * A small server that speaks the Hugging Face hub's API over real files: revisions, file trees in pages, `resolve` with ranges, large
 * files by redirect to a second origin, access rules, and faults on demand. Built after the hub's OpenAPI description and what
 * @huggingface/hub asks for. Both origins are on 127.0.0.1 at ports that the system picks.
 */
import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import path from 'node:path'
import { gzipSync } from 'node:zlib'
import { onTestFinished } from 'vitest'

export interface HubRepo {
  /** Commit → folder whose files it has. */
  readonly commits: Readonly<Record<string, string>>
  /** Branch or tag → commit. May change while the server runs. */
  readonly refs: Record<string, string>
  /** Who may read: everybody, readers, nobody (terms not accepted), or everybody the list of files but only readers their content. */
  readonly access?: 'open' | 'private' | 'gated' | 'listed'
  /** Tokens of readers. May change while the server runs. */
  readonly readers?: readonly string[]
  /** Larger files are kept as LFS; without it, those of more than 20,000 bytes. */
  readonly lfsBytes?: number
  /** The size under which a file is listed, for hubs that lie or hold what no test wants to write. */
  readonly listedBytes?: (name: string, bytes: number) => number
  /** The name under which a file is listed, for hubs that lie. */
  readonly listedAs?: (name: string) => string
}

export interface HubRequest {
  readonly origin: 'hub' | 'cdn'
  readonly method: string
  readonly path: string
  readonly range: string | undefined
  readonly authorization: string | undefined
}

/** What goes wrong with one answer. `cut`: the connection breaks after so many bytes of the body; `stall`: it stays open instead. */
export type HubFault =
  | { readonly kind: 'status'; readonly status: number }
  | { readonly kind: 'cut'; readonly afterBytes: number }
  | { readonly kind: 'stall'; readonly afterBytes: number }
  | { readonly kind: 'wrong-bytes' }
  | { readonly kind: 'no-range' }
  /** Compressed, and far longer than the range that was asked for. */
  | { readonly kind: 'gzip'; readonly bytes: number }

export interface HubServer {
  readonly endpoint: string
  readonly token: string
  readonly requests: HubRequest[]
  /** Decides on every request; undefined answers it well. */
  fault: (request: HubRequest) => HubFault | undefined
  /** Refuses connections from now on. */
  close(): Promise<void>
}

/** Files above this are stored as LFS, as on the hub: sha256 in the listing, content from the other origin. */
const LFS_BYTES = 20_000
const PAGE = 3
const TOKEN = 'hf_test_token'

/** Starts a hub with these repositories; it stops with the test. */
export async function startHub(repos: Readonly<Record<string, HubRepo>>): Promise<HubServer> {
  const hub = await openHub(repos)
  onTestFinished(() => hub.close())
  return hub
}

/** The same for whoever closes it. */
export async function openHub(repos: Readonly<Record<string, HubRepo>>): Promise<HubServer> {
  const requests: HubRequest[] = []
  const answer = async (origin: 'hub' | 'cdn', request: IncomingMessage, response: ServerResponse) => {
    const url = new URL(request.url ?? '/', 'http://localhost')
    const { range, authorization } = request.headers
    const seen = { origin, method: request.method ?? '', path: url.pathname, range, authorization }
    requests.push(seen)
    const fault = hub.fault(seen)
    if (fault?.kind === 'status') return send(response, fault.status, { error: `fault ${fault.status}` })
    if (origin === 'cdn')
      return sendBytes(response, await readFile(Buffer.from(url.pathname.slice(1), 'hex').toString()), seen.range, fault)
    const route = findRoute(url.pathname, repos)
    if (route === undefined)
      return send(response, seen.authorization === undefined ? 401 : 404, { error: 'Repository not found' })
    const { repo, name, rest } = route
    const isReader = (repo.readers ?? [TOKEN]).some((token) => authorization === `Bearer ${token}`)
    if (repo.access === 'private' && !isReader) return send(response, 401, { error: 'Repository not found' })
    if (repo.access === 'gated' || (repo.access === 'listed' && !isReader && rest[0] === 'resolve'))
      return send(response, 403, { error: 'Access to this model is restricted' })
    const [kind, rawRevision = '', ...file] = rest
    const commit = commitOf(repo, decodeURIComponent(rawRevision))
    const folder = commit === undefined ? undefined : repo.commits[commit]
    if (commit === undefined || folder === undefined) return send(response, 404, { error: 'Revision not found' })
    if (kind === 'revision')
      return send(response, 200, {
        _id: '1',
        id: name,
        sha: commit,
        private: false,
        gated: false,
        downloads: 0,
        likes: 0,
        lastModified: '2026-01-01T00:00:00.000Z',
      })
    if (kind === 'tree') return await sendTree(response, folder, { url, endpoint: hub.endpoint, repo })
    if (kind === 'paths-info') return await sendPaths(response, folder, { request, repo })
    return await sendFile(response, { repo, folder, commit, file: file.join('/'), cdn: cdnEndpoint, range, fault })
  }
  const listen = async (origin: 'hub' | 'cdn'): Promise<{ server: Server; endpoint: string }> => {
    const server = createServer((request, response) => {
      answer(origin, request, response).catch((error: unknown) => response.destroy(error instanceof Error ? error : undefined))
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const address = server.address()
    if (address === null || typeof address === 'string') throw new Error('the server has no port')
    return { server, endpoint: `http://127.0.0.1:${address.port}` }
  }
  const main = await listen('hub')
  const cdn = await listen('cdn')
  const cdnEndpoint = cdn.endpoint
  const hub: HubServer = {
    endpoint: main.endpoint,
    token: TOKEN,
    requests,
    fault: () => undefined,
    close: async () => {
      for (const { server } of [main, cdn]) {
        server.closeAllConnections()
        await new Promise((resolve) => server.close(resolve))
      }
    },
  }
  return hub
}

function findRoute(
  pathname: string,
  repos: Readonly<Record<string, HubRepo>>,
): { repo: HubRepo; name: string; rest: string[] } | undefined {
  const parts = pathname
    .replace(/^\/api\/models\//, '/')
    .split('/')
    .slice(1)
  const name = parts.slice(0, 2).join('/')
  const repo = Object.hasOwn(repos, name) ? repos[name] : undefined
  return repo === undefined ? undefined : { repo, name, rest: parts.slice(2) }
}

function commitOf(repo: HubRepo, revision: string): string | undefined {
  return Object.hasOwn(repo.commits, revision) ? revision : repo.refs[revision]
}

async function sendTree(
  response: ServerResponse,
  folder: string,
  at: { url: URL; endpoint: string; repo: HubRepo },
): Promise<void> {
  const names = (await readdir(folder)).toSorted()
  const start = Number(at.url.searchParams.get('cursor') ?? 0)
  const entries = []
  for (const name of names.slice(start, start + PAGE)) {
    entries.push(listed(name, await readFile(path.join(folder, name)), at.repo))
  }
  if (start + PAGE < names.length) {
    at.url.searchParams.set('cursor', String(start + PAGE))
    response.setHeader('link', `<${at.endpoint}${at.url.pathname}${at.url.search}>; rel="next"`)
  }
  send(response, 200, entries)
}

/** What a caller asks for by name, where it is there. */
async function sendPaths(
  response: ServerResponse,
  folder: string,
  { request, repo }: { request: IncomingMessage; repo: HubRepo },
): Promise<void> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  const { paths } = JSON.parse(Buffer.concat(chunks).toString()) as { paths: string[] }
  const entries = []
  for (const name of await readdir(folder)) {
    if (paths.includes(name)) entries.push(listed(name, await readFile(path.join(folder, name)), repo))
  }
  send(response, 200, entries)
}

function listed(name: string, bytes: Buffer, { listedAs, listedBytes, lfsBytes = LFS_BYTES }: HubRepo) {
  const size = listedBytes?.(name, bytes.length) ?? bytes.length
  const lfs = { oid: createHash('sha256').update(bytes).digest('hex'), size, pointerSize: 130 }
  const path = listedAs?.(name) ?? name
  return { type: 'file', path, size, oid: gitId(bytes), ...(bytes.length > lfsBytes ? { lfs } : {}) }
}

interface FileAnswer {
  readonly repo: HubRepo
  readonly folder: string
  readonly commit: string
  readonly file: string
  readonly cdn: string
  readonly range: string | undefined
  readonly fault: HubFault | undefined
}

async function sendFile(response: ServerResponse, answer: FileAnswer): Promise<void> {
  const { repo, folder, commit, file, cdn, range, fault } = answer
  const location = path.join(folder, file)
  const bytes = await readFile(location).catch(() => undefined)
  response.setHeader('x-repo-commit', commit)
  if (bytes === undefined) {
    response.setHeader('x-error-code', 'EntryNotFound')
    send(response, 404, { error: 'Entry not found' })
    return
  }
  if (bytes.length <= (repo.lfsBytes ?? LFS_BYTES)) {
    sendBytes(response, bytes, range, fault)
    return
  }
  response.setHeader('location', `${cdn}/${Buffer.from(location).toString('hex')}`)
  response.setHeader('x-linked-size', bytes.length)
  response.writeHead(302).end()
}

function sendBytes(response: ServerResponse, whole: Buffer, range: string | undefined, fault: HubFault | undefined): void {
  const parts = /^bytes=([0-9]+)-([0-9]+)$/.exec(range ?? '')
  const ranged = parts !== null && fault?.kind !== 'no-range'
  const from = ranged ? Number(parts[1]) : 0
  const to = ranged ? Math.min(Number(parts[2]), whole.length - 1) : whole.length - 1
  const body = Buffer.from(whole.subarray(from, to + 1))
  if (fault?.kind === 'wrong-bytes') body.fill(0x5a)
  response.setHeader('etag', `"${gitId(whole)}"`)
  response.setHeader('accept-ranges', 'bytes')
  if (ranged) response.setHeader('content-range', `bytes ${from}-${to}/${whole.length}`)
  if (fault?.kind === 'gzip') {
    response.setHeader('content-encoding', 'gzip')
    response.writeHead(ranged ? 206 : 200).end(gzipSync(Buffer.alloc(fault.bytes)))
    return
  }
  response.setHeader('content-length', body.length)
  response.writeHead(ranged ? 206 : 200)
  if (fault?.kind !== 'cut' && fault?.kind !== 'stall') {
    response.end(body)
    return
  }
  response.write(body.subarray(0, fault.afterBytes), () => {
    if (fault.kind === 'cut') setImmediate(() => response.destroy())
  })
}

function gitId(bytes: Buffer): string {
  return createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex')
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.setHeader('content-type', 'application/json')
  response.writeHead(status).end(JSON.stringify(body))
}
