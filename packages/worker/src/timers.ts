import type { Timers } from '@quiver/protocol'

export type { Timers } from '@quiver/protocol'

/** Node keeps a delay in 31 bits; a longer one would fire at once. */
const LONGEST_DELAY_MS = 2 ** 31 - 1

/** The timers of Node. They do not keep the process alive. */
export const nodeTimers: Timers = {
  after(delayMs, callback) {
    if (delayMs === Number.POSITIVE_INFINITY) return () => {}
    let timer: NodeJS.Timeout
    const arm = (leftMs: number) => {
      const delay = Math.min(leftMs, LONGEST_DELAY_MS)
      timer = setTimeout(() => (leftMs > delay ? arm(leftMs - delay) : callback()), delay)
      timer.unref()
    }
    arm(delayMs)
    return () => clearTimeout(timer)
  },
}
