/** What is measured of a worker to predict how long a request would wait. */

/** A new measurement moves an estimate by this share of the difference. */
const SHARE = 0.1
/** A step with fewer prompt rows tells more of what every step costs than of how fast prompts are, and counts for less. */
const TELLING_ROWS = 32
/** Before anything was measured. */
const FIRST_TOKENS_PER_SECOND = 1_000
const FIRST_TURNOVER_MS = 100
/** Ends that are further apart come of idleness, not of work. */
const TURNOVER_MS_AT_MOST = 60_000

/** Measured on the batch's own clock, in the process that runs it. */
export class LoadMeter {
  #tokensPerSecond = FIRST_TOKENS_PER_SECOND
  #turnoverMs = FIRST_TURNOVER_MS
  #lastEndMs: number | undefined

  /** Prompt tokens computed in a second, beside whatever else ran in their steps. Above 0. */
  get tokensPerSecond(): number {
    return this.#tokensPerSecond
  }

  /** Mean time between two sequences that end while others wait for their places. */
  get turnoverMs(): number {
    return this.#turnoverMs
  }

  /** A step with so many prompt rows took so long. */
  step(promptRows: number, tookMs: number): void {
    if (promptRows === 0 || tookMs <= 0) return
    const share = SHARE * Math.min(1, promptRows / TELLING_ROWS)
    this.#tokensPerSecond += share * ((promptRows / tookMs) * 1000 - this.#tokensPerSecond)
  }

  /** Sequences ended at once; `isFull`: others were waiting for a place. */
  ended(count: number, nowMs: number, isFull: boolean): void {
    if (count === 0) return
    if (isFull && this.#lastEndMs !== undefined) {
      const eachMs = Math.min(TURNOVER_MS_AT_MOST, nowMs - this.#lastEndMs) / count
      this.#turnoverMs += SHARE * (eachMs - this.#turnoverMs)
    }
    // What ended before a pause says nothing about the pace after it.
    this.#lastEndMs = isFull ? nowMs : undefined
  }
}
