import type { ServerResponse } from 'node:http'
import type { RunEvent } from '@quiver/protocol'
import type { EventSink } from './step/sequence.ts'
import type { Timers } from './timers.ts'

export interface EventStreamOptions {
  readonly timers: Timers
  /** Bytes that may wait for the reader. */
  readonly bufferBytes: number
  /** How long the reader may take for what is left once the run is over. */
  readonly flushMs: number
}

/**
 * A run's events as lines of JSON. A reader that falls behind by more than `bufferBytes` and one event, or leaves what is left lying for
 * `flushMs`, is cut off: the connection is destroyed, which cancels the run, and nobody else notices. Writes never wait.
 *
 * Written straight to Node's response, not through a web stream: it tells how much is unsent, which back-pressure needs, and
 * its `close` event is the one sign of a client's leaving that comes in every phase, also while nothing is being written.
 */
export class EventStream implements EventSink {
  readonly #response: ServerResponse
  readonly #options: EventStreamOptions
  readonly #left = new AbortController()
  /** Of the events so far. One alone may be larger than the buffer: a long prompt's tokens come as one. */
  #largestBytes = 0
  #isOver = false
  #callOffFlush = () => {}

  constructor(response: ServerResponse, options: EventStreamOptions) {
    this.#response = response
    this.#options = options
    // A write to a socket that has just gone is an error event; `close` follows and says all there is to say.
    response.on('error', () => {})
    response.once('close', () => {
      this.#callOffFlush()
      if (!response.writableFinished) this.#left.abort()
    })
    if (response.destroyed) this.#left.abort()
    response.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' })
    response.flushHeaders()
  }

  /** Aborted when the client has left, or was cut off, before everything was delivered. */
  get left(): AbortSignal {
    return this.#left.signal
  }

  send(event: RunEvent): void {
    if (this.#isOver || this.#response.destroyed) return
    const line = `${JSON.stringify(event)}\n`
    this.#largestBytes = Math.max(this.#largestBytes, Buffer.byteLength(line))
    if (event.type === 'done' || event.type === 'error') {
      this.#isOver = true
      this.#response.end(line)
      this.#callOffFlush = this.#options.timers.after(this.#options.flushMs, () => this.#response.destroy())
    } else this.#response.write(line)
    if (this.#response.writableLength > this.#options.bufferBytes + this.#largestBytes) this.#response.destroy()
  }
}
