/** Answers to what Node could not read as a request: too many headers, broken framing, a client that is too slow. */
import type { IncomingMessage, Server } from 'node:http'
import type { Socket } from 'node:net'
import { type Logger, ServingError } from '@quiver/protocol'
import { logFailure } from './error-response.ts'
import { toLoraxError } from './lorax-envelope.ts'
import { toOpenaiError } from './openai/envelope.ts'

/** What Node says of such a request; `rawPacket` are the bytes that its parser stopped in. */
interface BrokenRequest extends NodeJS.ErrnoException {
  readonly rawPacket?: Uint8Array
}

/** A request line fits into this. */
const LINE_BYTES = 256

/** Each is answered in the form of its route's family, as far as the route can be told, and its connection is closed. */
export function answerBrokenRequests(
  server: Server,
  { log, newId }: { readonly log: Logger; readonly newId: () => string },
): void {
  const paths = new WeakMap<Socket, string>()
  server.prependListener('request', ({ socket, url = '' }: IncomingMessage) => void paths.set(socket, url))
  server.on('clientError', (broken: BrokenRequest, socket: Socket) => {
    if (broken.code === 'ECONNRESET' || !socket.writable) return void socket.destroy()
    const [status, text] = statusOf(broken)
    const path = requestedPath(broken) ?? paths.get(socket) ?? ''
    const error = new ServingError('invalid_request', text)
    const requestId = newId()
    logFailure(log, error, requestId)
    const { body } = path.startsWith('/v1/') ? toOpenaiError(error) : toLoraxError(error)
    const json = JSON.stringify(body)
    const head = [`HTTP/1.1 ${status}`, 'connection: close', 'content-type: application/json', `x-request-id: ${requestId}`]
    socket.end([...head, `content-length: ${json.length}`, '', json].join('\r\n'))
  })
}

function statusOf({ code }: BrokenRequest): readonly [status: string, text: string] {
  if (code === 'HPE_HEADER_OVERFLOW')
    return ['431 Request Header Fields Too Large', 'The request has too many or too long headers']
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return ['408 Request Timeout', 'The request was not complete in time']
  return ['400 Bad Request', 'The request is not valid HTTP']
}

/** Undefined where the parser had gone beyond the request's first line. */
function requestedPath({ rawPacket }: BrokenRequest): string | undefined {
  const begin = rawPacket === undefined ? '' : Buffer.from(rawPacket.subarray(0, LINE_BYTES)).toString('latin1')
  return /^[A-Z]{1,16} (\/\S*)/.exec(begin)?.[1]
}
