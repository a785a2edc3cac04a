import type { IncomingMessage } from 'node:http'
import { ServingError } from '@quiver/protocol'
import { tooLong } from './growing-buffer.ts'

/**
 * A request's body as it arrives, at most so many bytes of it. Leaving early keeps the connection for the answer.
 * @throws ServingError `too_large` before anything is read where the length is announced, `unsupported_media_type` for a compressed
 * body, `client_closed`, and the signal's reason
 */
export async function* bodyChunks(incoming: IncomingMessage, maxBytes: number, signal: AbortSignal): AsyncGenerator<Buffer> {
  const encoding = incoming.headers['content-encoding']
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
    throw new ServingError('unsupported_media_type', 'Expected request without `Content-Encoding`')
  }
  if (Number(incoming.headers['content-length'] ?? 0) > maxBytes) throw tooLong('The request body', maxBytes)
  let length = 0
  try {
    for await (const chunk of incoming.iterator({ destroyOnReturn: false })) {
      if (signal.aborted) throw signal.reason
      length += chunk.length
      if (length > maxBytes) throw tooLong('The request body', maxBytes)
      yield chunk
    }
  } catch (thrown) {
    if (thrown instanceof ServingError) throw thrown
    throw new ServingError('client_closed', 'the client closed the connection while it sent the body', {}, { cause: thrown })
  }
  if (!incoming.complete) throw new ServingError('client_closed', 'the client closed the connection while it sent the body')
}
