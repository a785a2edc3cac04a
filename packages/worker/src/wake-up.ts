import type { Clock } from '@quiver/protocol'
import type { Timers } from './timers.ts'

/** Lets one sleeper sleep until it is rung for or a time has come. A ring that comes while nobody sleeps ends the next sleep at once. */
export class WakeUp {
  readonly #clock: Clock
  readonly #timers: Timers
  #rung = false
  #wake: (() => void) | undefined

  constructor(deps: { readonly clock: Clock; readonly timers: Timers }) {
    this.#clock = deps.clock
    this.#timers = deps.timers
  }

  ring(): void {
    this.#rung = true
    this.#wake?.()
  }

  async sleepUntil(atMs: number): Promise<void> {
    if (!this.#rung) {
      await new Promise<void>((resolve) => {
        const callOff = this.#timers.after(Math.max(0, atMs - this.#clock.nowMs()), resolve)
        this.#wake = () => {
          callOff()
          resolve()
        }
      })
      this.#wake = undefined
    }
    this.#rung = false
  }
}
