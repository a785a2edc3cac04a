import { ServingError } from '@quiver/protocol'
import type { Timers } from '../../timers.ts'

export interface RemoteHttpConfig {
  /** Where the server listens, without a slash at the end. */
  readonly url: string
  /** Sent as a bearer token; empty: none. */
  readonly key: string
}

export interface RemoteHttpDeps {
  readonly fetch: typeof fetch
  readonly timers: Timers
}

export interface RemoteAnswer {
  readonly status: number
  /** The whole body; JSON where it is such, else its text. */
  readonly body: unknown
}

/** Answers that are no streams are a few kilobytes; more is not read. */
const ANSWER_BYTES_AT_MOST = 8 * 2 ** 20
const REASON_CHARACTERS_AT_MOST = 300

/** Calls of one server, each within its own time. Redirects are not followed: they would take prompts and the key elsewhere. */
export class RemoteHttp {
  readonly #config: RemoteHttpConfig
  readonly #deps: RemoteHttpDeps

  constructor(config: RemoteHttpConfig, deps: RemoteHttpDeps) {
    this.#config = config
    this.#deps = deps
  }

  get url(): string {
    return this.#config.url
  }

  /**
   * Any status is an answer.
   * @throws ServingError `worker_lost` when there is none within `timeoutMs`
   */
  async ask(path: string, { body, timeoutMs }: { readonly body?: unknown; readonly timeoutMs: number }): Promise<RemoteAnswer> {
    const abort = new AbortController()
    const callOff = this.#deps.timers.after(timeoutMs, () => abort.abort())
    try {
      const response = await this.#send(path, body, abort.signal)
      return { status: response.status, body: parsed(await textOf(response)) }
    } catch (thrown) {
      const why = abort.signal.aborted ? `did not answer within ${timeoutMs} ms` : 'cannot be reached'
      throw this.lost(`${path} ${why}`, thrown)
    } finally {
      callOff()
    }
  }

  /**
   * Starts an answer that comes piece by piece. The caller's signal ends it.
   * @throws ServingError `worker_lost` when the server cannot be reached or breaks off
   */
  async open(path: string, body: unknown, signal: AbortSignal): Promise<Response> {
    try {
      return await this.#send(path, body, signal)
    } catch (thrown) {
      throw this.lost(`${path} cannot be reached`, thrown)
    }
  }

  /** What the server is to blame for; the gateway then tries another worker, as long as nothing was sent. */
  lost(what: string, cause?: unknown): ServingError {
    return new ServingError('worker_lost', `the server behind this worker failed: ${what}`, { url: this.url }, { cause })
  }

  async #send(path: string, body: unknown, signal: AbortSignal): Promise<Response> {
    const { url, key } = this.#config
    const response = await this.#deps.fetch(`${url}${path}`, {
      method: body === undefined ? 'GET' : 'POST',
      redirect: 'manual',
      signal,
      headers: {
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(key === '' ? {} : { authorization: `Bearer ${key}` }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    if (response.status >= 300 && response.status < 400) {
      await response.body?.cancel()
      throw new Error(`${path} answers with a redirect, which is not followed`)
    }
    return response
  }
}

/** The answer's reason in its own words, cut short. vLLM and SGLang say it in one of these places. */
export function reasonOf({ status, body }: RemoteAnswer): string {
  const found = [
    at(body, 'error', 'message'),
    at(body, 'error_message'),
    at(body, 'message'),
    at(body, 'detail'),
    at(body, 'error'),
    body,
  ]
  const text = found.find((value) => typeof value === 'string' && value !== '')
  return typeof text === 'string' ? text.slice(0, REASON_CHARACTERS_AT_MOST) : `status ${status}`
}

/** What lies at a path of keys in parsed JSON; undefined where there is nothing. */
export function at(value: unknown, ...keys: readonly (string | number)[]): unknown {
  let found = value
  for (const key of keys) {
    if (typeof found !== 'object' || found === null || !Object.hasOwn(found, key)) return undefined
    found = (found as Record<string | number, unknown>)[key]
  }
  return found
}

/** The body of an answer that is refused, which may be anything. @throws what reading throws */
export async function textOf(response: Response): Promise<string> {
  const decoder = new TextDecoder()
  let [text, bytes] = ['', 0]
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength
    if (bytes > ANSWER_BYTES_AT_MOST) throw new Error(`an answer of more than ${ANSWER_BYTES_AT_MOST} bytes`)
    text += decoder.decode(chunk, { stream: true })
  }
  return text + decoder.decode()
}

export function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text // An error page, or a plain word.
  }
}
