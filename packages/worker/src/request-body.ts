import type { IncomingMessage } from 'node:http'
import { ServingError } from '@quiver/protocol'
import { z } from 'zod'

/** @throws ServingError `too_large` before the rest is read, `unsupported_media_type`, `client_closed` */
export async function readBody(incoming: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const encoding = incoming.headers['content-encoding']
  if (encoding !== undefined && encoding !== 'identity') {
    throw new ServingError('unsupported_media_type', `content-encoding ${encoding} is not supported: send the body as it is`)
  }
  const tooLarge = () => new ServingError('too_large', `the body is longer than ${maxBytes} bytes`)
  if (Number(incoming.headers['content-length'] ?? 0) > maxBytes) throw tooLarge()
  return await new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let bytes = 0
    const onData = (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes <= maxBytes) chunks.push(chunk)
      else {
        incoming.off('data', onData)
        incoming.pause()
        reject(tooLarge())
      }
    }
    incoming.on('data', onData)
    incoming.once('end', () => resolve(Buffer.concat(chunks)))
    incoming.once('error', () => reject(gone()))
    incoming.once('close', () => reject(gone()))
  })
}

function gone(): ServingError {
  return new ServingError('client_closed', 'the client closed the connection before its request was complete')
}

/** @throws ServingError `invalid_request` saying what is wrong */
export function parseBody<T>(schema: z.ZodType<T>, what: string, body: Buffer): T {
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
  } catch (cause) {
    throw new ServingError('invalid_request', 'the body is not JSON in UTF-8', {}, { cause })
  }
  const parsed = schema.safeParse(value)
  if (!parsed.success) throw new ServingError('invalid_request', `not ${what}: ${z.prettifyError(parsed.error)}`)
  return parsed.data
}
