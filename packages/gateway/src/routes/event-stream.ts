/**
 * A server-sent event stream over a bounded buffer. It reads ahead of a slow client, so that the worker is not held up; a
 * full buffer stops the reading, which in the end holds up this one run; a client that leaves it full is cut off.
 */
import type { TimerClock } from '../clock.ts'

export interface EventStreamOptions {
  readonly clock: TimerClock
  /** A comment is sent after this long without an event, so that proxies keep the connection. */
  readonly keepAliveMs: number
  /** A client that takes nothing of a full buffer, or of what is left at the end, for this long is cut off. */
  readonly slowReaderMs: number
  readonly bufferBytes: number
  /** Closes the connection of such a client; the stream is then cancelled like any other. */
  readonly onSlowReader: () => void
  /** The client is gone: what produces the events must stop now. Not called at a regular end. */
  readonly onGone: () => void
  /** Resolves when the client has taken everything or is gone. */
  readonly whenTaken: Promise<void>
}

/**
 * @param events each becomes `data:` and its JSON; a string stands there as it is. It must not throw: an error is an event here.
 * @returns bytes of `text/event-stream`
 */
export function eventStream(events: AsyncGenerator<object | string>, options: EventStreamOptions): ReadableStream<Uint8Array> {
  const { clock } = options
  const encoder = new TextEncoder()
  let stopKeepAlive = () => {}
  let stopSlowReader = () => {}
  const stopTimers = () => {
    stopKeepAlive()
    stopSlowReader()
  }
  const watchReader = () => {
    stopSlowReader()
    stopSlowReader = clock.after(options.slowReaderMs, options.onSlowReader)
  }
  void options.whenTaken.then(stopTimers)
  return new ReadableStream<Uint8Array>(
    {
      // Called whenever the buffer has room.
      async pull(controller) {
        stopSlowReader()
        const keepAlive = () => {
          controller.enqueue(encoder.encode(':\n\n'))
          stopKeepAlive = clock.after(options.keepAliveMs, keepAlive)
        }
        stopKeepAlive = clock.after(options.keepAliveMs, keepAlive)
        const next = await events.next()
        stopTimers()
        if (next.done === true) {
          controller.close()
          return watchReader()
        }
        const data = typeof next.value === 'string' ? next.value : JSON.stringify(next.value)
        controller.enqueue(encoder.encode(`data:${data}\n\n`))
        if ((controller.desiredSize ?? 0) <= 0) watchReader()
      },
      async cancel() {
        stopTimers()
        options.onGone()
        // Between two events nobody waits in the generator, so it must be told to run its finally blocks.
        await events.return(undefined)
      },
    },
    new ByteLengthQueuingStrategy({ highWaterMark: options.bufferBytes }),
  )
}
