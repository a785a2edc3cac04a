/** Monotonic time. Wall clocks step; deadlines, leases and back-off may not. */
export interface Clock {
  /** Milliseconds since an arbitrary start; never goes back. */
  nowMs(): number
}
