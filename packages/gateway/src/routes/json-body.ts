/** Reads a request's JSON body from Node's own stream: bounded, without keeping the chunks it came in. */
import type { IncomingMessage } from 'node:http'
import { ServingError } from '@quiver/protocol'
import { requireModestJson } from './json-shape.ts'

const FIRST_CAPACITY = 16 * 1024

export interface JsonBody {
  /** The text itself, for what JSON.parse cannot give exactly. */
  readonly text: string
  readonly value: unknown
}

/**
 * @param maxBytes a longer body is refused as soon as that is known, before the rest is read
 * @throws ServingError `unsupported_media_type`, `too_large`, `invalid_request`, `client_closed`
 */
export async function readJsonBody(incoming: IncomingMessage, maxBytes: number): Promise<JsonBody> {
  requireJson(incoming)
  const bytes = await readBody(incoming, maxBytes)
  const text = decodeUtf8(bytes)
  requireModestJson(text)
  try {
    return { text, value: JSON.parse(text) }
  } catch (cause) {
    throw new ServingError(
      'invalid_request',
      `Failed to parse the request body as JSON: ${(cause as SyntaxError).message}`,
      {},
      { cause },
    )
  }
}

function requireJson({ headers }: IncomingMessage): void {
  const [type = '', ...parameters] = (headers['content-type'] ?? '').toLowerCase().split(';')
  const charset = parameters.map((part) => /^\s*charset\s*=\s*"?([^"]*)"?\s*$/.exec(part)?.[1]).find((name) => name !== undefined)
  if (!/^application\/([a-z0-9!#$&^_.+-]+\+)?json$/.test(type.trim()) || (charset !== undefined && !/^utf-?8$/.test(charset))) {
    throw new ServingError('unsupported_media_type', 'Expected request with `Content-Type: application/json` in UTF-8')
  }
  const encoding = headers['content-encoding']
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
    throw new ServingError('unsupported_media_type', 'Expected request without `Content-Encoding`')
  }
}

/** Grows one buffer: a million chunks of one byte must not become a million objects. */
function readBody(incoming: IncomingMessage, maxBytes: number): Promise<Uint8Array> {
  // Made when it is needed: an error costs as much as reading a small body.
  const tooLarge = () =>
    new ServingError('too_large', `The request body is longer than the ${maxBytes} bytes that this server accepts`)
  const declared = Number(incoming.headers['content-length'] ?? 0)
  if (declared > maxBytes) return Promise.reject(tooLarge())
  return new Promise((resolve, reject) => {
    let buffer = new Uint8Array(declared > 0 ? declared : FIRST_CAPACITY)
    let length = 0
    const settle = (finish: () => void): void => {
      incoming.off('data', onData).off('end', onEnd).off('error', onLost).off('close', onLost)
      finish()
    }
    const onData = (chunk: Uint8Array): void => {
      if (length + chunk.length > maxBytes) {
        incoming.pause()
        settle(() => reject(tooLarge()))
        return
      }
      if (length + chunk.length > buffer.length) {
        const larger = new Uint8Array(Math.max(buffer.length * 2, length + chunk.length))
        larger.set(buffer.subarray(0, length))
        buffer = larger
      }
      buffer.set(chunk, length)
      length += chunk.length
    }
    const onEnd = (): void => settle(() => resolve(buffer.subarray(0, length)))
    const onLost = (): void =>
      settle(() => reject(new ServingError('client_closed', 'the client closed the connection while it sent the body')))
    incoming.on('data', onData).on('end', onEnd).on('error', onLost).on('close', onLost)
  })
}

/** Strict: a byte order mark or a broken character is refused, not replaced. */
function decodeUtf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (cause) {
    throw new ServingError('invalid_request', 'Failed to parse the request body: it is not valid UTF-8', {}, { cause })
  }
}
