/** `quiver adapters`: asks a running server's admin routes. */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { type ErrorCode, errorCodes, ServingError } from '@quiver/protocol'
import { z } from 'zod'

export interface AdaptersIo {
  readonly stdout: NodeJS.WritableStream
  readonly fetch: typeof fetch
  /** Of the server, such as `http://127.0.0.1:8080`. */
  readonly url: string
  /** The admin key, or an API key that may administer; empty on a server that wants none from this machine. */
  readonly key: string
}

const refusalSchema = z.object({ error: z.string(), error_type: z.string() })
const aliasesSchema = z.record(z.string(), z.object({ version: z.number() }))
const pageSchema = z.object({
  adapters: z.array(z.object({ name: z.string(), latest: z.number().nullable(), pinned: z.boolean(), aliases: aliasesSchema })),
  cursor: z.string().nullable(),
})
const publishedSchema = z.object({
  name: z.string(),
  version: z.number(),
  digest: z.string(),
  aliases: z.array(z.string()),
  is_new: z.boolean(),
})
const stateSchema = z.object({ name: z.string(), pinned: z.boolean(), retired: z.boolean(), aliases: aliasesSchema })

/** One line for each adapter: name, latest version, aliases, and whether it is pinned. @throws ServingError as the server refuses it */
export async function listAdapters(prefix: string, io: AdaptersIo): Promise<void> {
  let cursor: string | null = ''
  while (cursor !== null) {
    const query = new URLSearchParams({ prefix, limit: '1000', ...(cursor === '' ? {} : { cursor }) })
    const page: z.infer<typeof pageSchema> = pageSchema.parse(await ask(io, 'GET', `?${query}`))
    for (const { name, latest, pinned, aliases } of page.adapters) {
      io.stdout.write(`${[name, latest ?? '-', aliasText(aliases), ...(pinned ? ['pinned'] : [])].join('  ')}\n`)
    }
    cursor = page.cursor
  }
}

/** Everything about one, as the server says it. @throws ServingError */
export async function showAdapter(name: string, io: AdaptersIo): Promise<void> {
  io.stdout.write(`${JSON.stringify(await ask(io, 'GET', segment(name)), null, 2)}\n`)
}

export interface PublishOptions {
  readonly alias?: string | undefined
  readonly pin?: true | undefined
  /** Which version the alias names now, as far as the caller knows. */
  readonly expected?: string | undefined
}

/**
 * Publishes a folder of this machine by sending it, `s3://…` or `hub:org/name` by naming it.
 * @throws ServingError `invalid_request` when the folder cannot be read, and as the server refuses it
 */
export async function publishAdapter(name: string, source: string, options: PublishOptions, io: AdaptersIo): Promise<void> {
  const remote = remoteSource(source)
  const answer =
    remote === undefined ? await upload(name, source, options, io) : await ask(io, 'POST', '', publication(name, remote, options))
  const { version, digest, aliases, is_new: isNew } = publishedSchema.parse(answer)
  io.stdout.write(`${name}  ${version}  sha256:${digest}  ${aliases.join(',') || '-'}  ${isNew ? 'new' : 'was there'}\n`)
}

/** Takes a name, or one version of it, out of service. @throws ServingError */
export async function retireAdapter(name: string, version: string | undefined, io: AdaptersIo): Promise<void> {
  say(io, await ask(io, 'DELETE', `${segment(name)}${version === undefined ? '' : `?version=${encodeURIComponent(version)}`}`))
}

/** @throws ServingError */
export async function moveAlias(
  name: string,
  alias: string,
  version: string,
  expected: string | undefined,
  io: AdaptersIo,
): Promise<void> {
  const body = { version: Number(version), ...(expected === undefined ? {} : { expected: Number(expected) }) }
  say(io, await ask(io, 'PUT', `${segment(name)}/aliases/${encodeURIComponent(alias)}`, body))
}

/** @throws ServingError */
export async function rollBack(name: string, alias: string | undefined, io: AdaptersIo): Promise<void> {
  say(io, await ask(io, 'POST', `${segment(name)}/rollback`, alias === undefined ? {} : { alias }))
}

/** @throws ServingError */
export async function setPinned(name: string, isPinned: boolean, io: AdaptersIo): Promise<void> {
  say(io, await ask(io, 'POST', `${segment(name)}/${isPinned ? 'pin' : 'unpin'}`, {}))
}

function say({ stdout }: AdaptersIo, answer: unknown): void {
  const { name, aliases, pinned, retired } = stateSchema.parse(answer)
  stdout.write(`${[name, aliasText(aliases), ...(pinned ? ['pinned'] : []), ...(retired ? ['retired'] : [])].join('  ')}\n`)
}

function aliasText(aliases: z.infer<typeof aliasesSchema>): string {
  return (
    Object.entries(aliases)
      .map(([alias, { version }]) => `${alias}=${version}`)
      .join(',') || '-'
  )
}

function remoteSource(source: string) {
  if (/^s3:\/\//i.test(source)) return { type: 's3', uri: source }
  return source.startsWith('hub:') ? { type: 'hub', id: source.slice('hub:'.length) } : undefined
}

function publication(name: string, source: object, { alias, pin, expected }: PublishOptions) {
  return {
    ...{ name, source },
    ...(alias === undefined ? {} : { alias: alias.split(',') }),
    ...(pin === undefined ? {} : { pin }),
    ...(expected === undefined ? {} : { expected: Number(expected) }),
  }
}

async function upload(name: string, folder: string, { alias, pin, expected }: PublishOptions, io: AdaptersIo): Promise<unknown> {
  const form = new FormData()
  for (const [field, value] of Object.entries({ alias, pin: pin === undefined ? undefined : 'true', expected })) {
    if (value !== undefined) form.set(field, value)
  }
  for (const file of ['adapter_config.json', 'adapter_model.safetensors', 'chat_template.jinja']) {
    const bytes = await readOf(folder, file)
    if (bytes !== undefined) form.set(file, new Blob([bytes]), file)
  }
  return await ask(io, 'PUT', `${segment(name)}/upload`, form)
}

/** A template may be missing. */
async function readOf(folder: string, file: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
  try {
    return new Uint8Array(await readFile(path.join(folder, file)))
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown'
    if (file === 'chat_template.jinja' && code === 'ENOENT') return undefined
    throw new ServingError(
      'invalid_request',
      `${path.join(folder, file)} cannot be read (${code}): name the folder of an adapter`,
      { usage: 1 },
    )
  }
}

function segment(name: string): string {
  return `/${encodeURIComponent(name)}`
}

/** @throws ServingError with what the server said, or that it cannot be reached */
async function ask({ fetch, url, key }: AdaptersIo, method: string, where: string, body?: object): Promise<unknown> {
  const isForm = body instanceof FormData
  const answer = await fetch(`${url.replace(/\/$/, '')}/admin/adapters${where}`, {
    method,
    headers: {
      ...(key === '' ? {} : { authorization: `Bearer ${key}` }),
      ...(body === undefined || isForm ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: isForm ? body : JSON.stringify(body) }),
  }).catch((cause: unknown) => {
    throw new ServingError('source_unavailable', `there is no server at ${url}: start one, or name it with --url`, {}, { cause })
  })
  const json: unknown = await answer.json().catch(() => undefined)
  if (answer.ok) return json
  const refusal = refusalSchema.safeParse(json)
  if (!refusal.success)
    throw new ServingError('source_unavailable', `${url} answered ${answer.status}: it is not a server of adapters`)
  throw new ServingError(codeOf(refusal.data.error_type), hint(refusal.data.error, answer.status))
}

/** A server that is not told who asks says that there is no such route. */
function hint(message: string, status: number): string {
  const isHidden = status === 401 || message === 'There is no such route'
  return isHidden
    ? `${message} (administration wants --admin-key or QUIVER_ADMIN_KEY, unless it is asked from its own machine)`
    : message
}

function codeOf(text: string): ErrorCode {
  // A failure inside the server is none inside this program.
  return errorCodes.find((code) => code === text && code !== 'internal') ?? 'source_unavailable'
}
