import type { ServerResponse } from 'node:http'
import { limits, ServingError } from '@quiver/protocol'
import { writeEvents } from './event-stream.ts'
import type { Exchange } from './exchange.ts'
import type { GenerateDeps } from './start-run.ts'

/** Headers of every answer that is an event stream. */
export const streamHeaders = {
  'content-type': 'text/event-stream',
  'cache-control': 'no-cache',
  'x-accel-buffering': 'no',
} as const

/**
 * An event stream tied to its connection: a slow client is cut off, and one that leaves ends its exchange.
 * @param frames as `writeEvents` takes them; read from now on, since what the headers say may depend on it
 * @returns writes it
 */
export function clientStream(
  frames: AsyncGenerator<string>,
  { clock, times }: Pick<GenerateDeps, 'clock' | 'times'>,
  exchange: Exchange,
): (outgoing: ServerResponse) => void {
  const first = frames.next()
  // A generator that nobody has begun to read runs no finally block when it is told to return. To a client that has left already
  // `prepend` is one, while the frames behind it have begun and hold a place: so they are told as well.
  return (outgoing) =>
    void writeEvents(prepend(first, frames), outgoing, {
      clock,
      keepAliveMs: times.keepAliveMs,
      slowReaderMs: times.slowReaderMs,
      bufferBytes: limits.streamBufferBytes,
      onGone: () => exchange.abort(new ServingError('client_closed', 'the client closed the connection')),
    }).finally(() => frames.return(undefined))
}

/** `items` with its first one, which was taken already. */
export async function* prepend<T>(first: Promise<IteratorResult<T>>, items: AsyncGenerator<T>): AsyncGenerator<T> {
  try {
    for (let next = await first; next.done !== true; next = await items.next()) yield next.value
  } finally {
    await items.return(undefined)
  }
}

/** One event of it. */
export function frameOf(data: string): string {
  return `data:${data}\n\n`
}
