/** Where waiting comes from, so that tests decide when time passes. */
export interface Timers {
  /** Calls back once after `delayMs`; Infinity means never. @returns a function that calls it off */
  after(delayMs: number, callback: () => void): () => void
}

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
