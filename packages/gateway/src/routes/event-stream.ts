/**
 * A server-sent event stream over a bounded buffer. It reads ahead of a slow client, so that the worker is not held up; a
 * full buffer stops the reading, which in the end holds up this one run; a client that leaves it full is cut off.
 */
import type { ServerResponse } from 'node:http'
import type { TimerClock } from '../clock.ts'

export interface EventStreamOptions {
  readonly clock: TimerClock
  /** A comment is sent after this long without an event, so that proxies keep the connection. */
  readonly keepAliveMs: number
  /** A client that takes nothing of a full buffer, or of what is left at the end, for this long is cut off. */
  readonly slowReaderMs: number
  readonly bufferBytes: number
  /** The client is gone: what produces the events must stop now. Not called at a regular end. */
  readonly onGone: () => void
}

/**
 * Writes `text/event-stream` and ends the response.
 * @param frames whole events as they go over the wire, as many at a time as there are. It must not throw: an error is an event here.
 */
export async function writeEvents(
  frames: AsyncGenerator<string>,
  outgoing: ServerResponse,
  options: EventStreamOptions,
): Promise<void> {
  const buffer = new ClientBuffer(outgoing, options)
  outgoing.flushHeaders()
  try {
    while (!buffer.isGone) {
      const next = await nextOrComments(frames, buffer, options)
      if (next.done === true) return buffer.end()
      buffer.push(next.value)
      if (buffer.isFull) await buffer.whenRoom()
    }
    options.onGone()
  } finally {
    // Between two events nobody waits in the generator, so it must be told to run its finally blocks.
    await frames.return(undefined)
  }
}

async function nextOrComments(
  frames: AsyncGenerator<string>,
  buffer: ClientBuffer,
  { clock, keepAliveMs }: EventStreamOptions,
): Promise<IteratorResult<string>> {
  let stop = () => {}
  const beatLater = () => {
    stop = clock.after(keepAliveMs, () => {
      buffer.push(':\n\n')
      beatLater()
    })
  }
  beatLater()
  try {
    return await frames.next()
  } finally {
    stop()
  }
}

/** What the client has not taken yet. Node gets no more than it asks for, so that it can be seen whether anything is taken. */
class ClientBuffer {
  readonly #outgoing: ServerResponse
  readonly #options: EventStreamOptions
  readonly #waiting: string[] = []
  #waitingBytes = 0
  #hasEnded = false
  #stopSlowReader = () => {}
  #onRoom = () => {}

  constructor(outgoing: ServerResponse, options: EventStreamOptions) {
    this.#outgoing = outgoing
    this.#options = options
    outgoing.on('drain', () => this.#drained())
    outgoing.once('close', () => {
      this.#stopSlowReader()
      this.#onRoom()
    })
  }

  get isGone(): boolean {
    return this.#outgoing.destroyed
  }

  get isFull(): boolean {
    return this.#waitingBytes >= this.#options.bufferBytes
  }

  push(text: string): void {
    if (this.isGone) return
    if (this.#waiting.length === 0 && !this.#outgoing.writableNeedDrain) {
      this.#outgoing.write(text)
      return
    }
    this.#waiting.push(text)
    this.#waitingBytes += Buffer.byteLength(text)
  }

  /** Resolves when there is, or the client is gone. */
  async whenRoom(): Promise<void> {
    this.#watchReader()
    while (this.isFull && !this.isGone) {
      await new Promise<void>((resolve) => {
        this.#onRoom = resolve
      })
    }
    this.#stopSlowReader()
  }

  end(): void {
    this.#hasEnded = true
    if (this.#waiting.length === 0) this.#outgoing.end()
    if (!this.#outgoing.writableFinished) this.#watchReader()
  }

  #drained(): void {
    while (this.#waiting.length > 0 && !this.#outgoing.writableNeedDrain) {
      const text = this.#waiting.shift() ?? ''
      this.#waitingBytes -= Buffer.byteLength(text)
      this.#outgoing.write(text)
    }
    if (this.#hasEnded) {
      this.#watchReader()
      if (this.#waiting.length === 0 && !this.#outgoing.writableEnded) this.#outgoing.end()
    } else if (this.isFull) this.#watchReader()
    this.#onRoom()
  }

  #watchReader(): void {
    this.#stopSlowReader()
    this.#stopSlowReader = this.#options.clock.after(this.#options.slowReaderMs, () => this.#outgoing.destroy())
  }
}
