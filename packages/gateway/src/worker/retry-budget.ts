/** Of all requests, how many may be run twice: enough for a worker that dies, too few to double the load when all do. */
const SHARE = 0.15
/** So that the first requests after the start are retried too. */
const FIRST = 10
/** What quiet times may save up. */
const MOST = 100

/**
 * Bounds retries to a share of the requests, over all clients of this gateway: when everything fails, retries add no more than that
 * share to the load. Each request pays in its share, each retry takes one out.
 */
export class RetryBudget {
  #balance = FIRST

  /** A request has come. */
  deposit(): void {
    this.#balance = Math.min(MOST, this.#balance + SHARE)
  }

  /** @returns whether one more retry is allowed; it then counts */
  take(): boolean {
    if (this.#balance < 1) return false
    this.#balance -= 1
    return true
  }
}
