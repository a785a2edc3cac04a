import type { ServerResponse } from 'node:http'
import { limits, ServingError } from '@quiver/protocol'
import { eventStream } from './event-stream.ts'
import type { Exchange } from './exchange.ts'
import type { GenerateDeps } from './start-run.ts'

/** Headers of every answer that is an event stream. */
export const streamHeaders = {
  'content-type': 'text/event-stream',
  'cache-control': 'no-cache',
  'x-accel-buffering': 'no',
} as const

/** An event stream tied to its connection: a slow client is cut off, and one that leaves ends its exchange. */
export function clientStream(
  events: AsyncGenerator<object | string>,
  { clock, times }: Pick<GenerateDeps, 'clock' | 'times'>,
  exchange: Exchange,
  outgoing: ServerResponse,
): ReadableStream<Uint8Array> {
  const closed = Promise.withResolvers<void>()
  outgoing.once('close', closed.resolve)
  return eventStream(events, {
    clock,
    keepAliveMs: times.keepAliveMs,
    slowReaderMs: times.slowReaderMs,
    bufferBytes: limits.streamBufferBytes,
    onSlowReader: () => outgoing.destroy(),
    onGone: () => exchange.abort(new ServingError('client_closed', 'the client closed the connection')),
    whenTaken: closed.promise,
  })
}
