import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as wait } from 'node:timers/promises'

/** How much later than asked timers ran, in milliseconds. */
export interface Lag {
  readonly median: number
  readonly p99: number
  readonly max: number
}

const RESOLUTION_MS = 1

/** Measures how long the event loop is held up. Node's histogram counts the time between two ticks, the wanted one included. */
export class LagMeter {
  readonly #delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS })

  start(): void {
    this.#delays.reset()
    this.#delays.enable()
  }

  async stop(): Promise<Lag> {
    // A stall is counted by the first tick behind it.
    await wait(3 * RESOLUTION_MS)
    this.#delays.disable()
    const lag = (nanoseconds: number): number => Math.max(0, nanoseconds / 1e6 - RESOLUTION_MS)
    return { median: lag(this.#delays.percentile(50)), p99: lag(this.#delays.percentile(99)), max: lag(this.#delays.max) }
  }
}
