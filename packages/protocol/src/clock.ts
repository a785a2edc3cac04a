/** Monotonic time. Wall clocks step; deadlines, leases and back-off may not. */
export interface Clock {
  /** Milliseconds since an arbitrary start; never goes back. */
  nowMs(): number
}

/** Where waiting comes from, so that tests decide when time passes. */
export interface Timers {
  /** Calls back once after `delayMs`; Infinity means never. @returns a function that calls it off */
  after(delayMs: number, callback: () => void): () => void
}
