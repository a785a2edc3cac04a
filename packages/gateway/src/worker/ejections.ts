/**
 * Workers that fail or are far slower than the others get no requests for a while: circuit breaking and outlier ejection in one,
 * since both end in the same way. After the pause the next request is a trial; if it goes well the worker is back, otherwise the pause
 * doubles. Only a share of the pool may be out at once: when most look bad, the fault is more likely elsewhere, and the rest could
 * not carry the load.
 */
import type { Clock } from '@quiver/protocol'

export interface EjectionRules {
  /** Failures in a row after which a worker is out. */
  readonly failures: number
  readonly firstMs: number
  readonly longestMs: number
  /** Of the pool, at most so many may be out. Of two or more, one always may. */
  readonly share: number
  /** Slower than the median of the others by this factor, and slower than this many ms for a token, … */
  readonly slowFactor: number
  readonly slowMs: number
  /** …over so many answers, a worker is out. */
  readonly answers: number
}

export const ejectionRules: EjectionRules = {
  failures: 3,
  firstMs: 5_000,
  longestMs: 60_000,
  share: 1 / 3,
  slowFactor: 6,
  slowMs: 25,
  answers: 5,
}

/** A new measurement moves the mean by this share of the difference. */
const SHARE = 0.25

interface Record {
  failuresInARow: number
  /** Mean time between two tokens of an answer; undefined before the first. */
  tokenMs: number | undefined
  answers: number
  /** When it may be tried again; undefined once a request after that went well. */
  outUntilMs: number | undefined
  /** Ejections in a row. */
  ejections: number
  /** A request is under way that decides. */
  isOnTrial: boolean
}

/** A request that was sent to a worker. */
export interface Attempt {
  readonly worker: string
  /** It decides whether the worker is back. */
  readonly isTrial: boolean
}

export class Ejections {
  readonly #clock: Clock
  readonly #rules: EjectionRules
  readonly #records = new Map<string, Record>()

  constructor(clock: Clock, rules: EjectionRules = ejectionRules) {
    this.#clock = clock
    this.#rules = rules
  }

  add(worker: string): void {
    if (!this.#records.has(worker)) this.#records.set(worker, fresh())
  }

  remove(worker: string): void {
    this.#records.delete(worker)
  }

  /** Whether it may get no request now: during the pause, and after it while one request is under way that decides. */
  isOut(worker: string): boolean {
    const record = this.#records.get(worker)
    return record !== undefined && this.#isRecordOut(record)
  }

  /** A request is sent to it; its end is to be told with what this gives. */
  sent(worker: string): Attempt {
    const record = this.#records.get(worker)
    const isTrial = record?.outUntilMs !== undefined
    if (isTrial) record.isOnTrial = true
    return { worker, isTrial }
  }

  /** Said neither for nor against the worker, such as one whose client left. */
  undecided({ worker, isTrial }: Attempt): void {
    const record = this.#records.get(worker)
    if (record !== undefined && isTrial) record.isOnTrial = false
  }

  /** @param tokenMs mean time between two of its tokens; undefined where there were not two */
  succeeded(attempt: Attempt, tokenMs?: number): void {
    const record = this.#counting(attempt)
    if (record === undefined) return
    record.failuresInARow = 0
    if (attempt.isTrial) {
      record.isOnTrial = false
      // How slow it was when it was sent away says nothing of now.
      if (tokenMs !== undefined) record.tokenMs = tokenMs
      if (this.#isSlow(attempt.worker, record)) this.#eject(record)
      else Object.assign(record, { outUntilMs: undefined, answers: 0 })
      return
    }
    record.ejections = Math.max(0, record.ejections - 0.1)
    if (tokenMs === undefined) return
    record.tokenMs = record.tokenMs === undefined ? tokenMs : record.tokenMs + SHARE * (tokenMs - record.tokenMs)
    record.answers += 1
    if (record.answers >= this.#rules.answers && this.#isSlow(attempt.worker, record)) this.#eject(record)
  }

  /** It was lost in the middle of a request, or answered that it is broken. */
  failed(attempt: Attempt): void {
    const record = this.#counting(attempt)
    if (record === undefined) return
    record.isOnTrial = false
    record.failuresInARow += 1
    if (attempt.isTrial || record.failuresInARow >= this.#rules.failures) this.#eject(record)
  }

  /** While a worker is out, what was sent before says only once more what is known: its trial alone counts. */
  #counting({ worker, isTrial }: Attempt): Record | undefined {
    const record = this.#records.get(worker)
    return record !== undefined && isTrial === (record.outUntilMs !== undefined) ? record : undefined
  }

  #isSlow(worker: string, { tokenMs }: Record): boolean {
    const { slowFactor, slowMs } = this.#rules
    // Below that nobody waits for it, and noise is larger than the factor.
    if (tokenMs === undefined || tokenMs <= slowMs) return false
    const others = [...this.#records].flatMap(([other, record]) =>
      other === worker || record.tokenMs === undefined || record.outUntilMs !== undefined ? [] : [record.tokenMs],
    )
    const median = others.toSorted((a, b) => a - b)[Math.floor((others.length - 1) / 2)]
    return median !== undefined && tokenMs > median * slowFactor
  }

  #isRecordOut({ outUntilMs, isOnTrial }: Record): boolean {
    return outUntilMs !== undefined && (isOnTrial || this.#clock.nowMs() < outUntilMs)
  }

  #eject(record: Record): void {
    const pool = this.#records.size
    const most = pool < 2 ? 0 : Math.max(1, Math.floor(pool * this.#rules.share))
    const out = [...this.#records.values()].filter((other) => other !== record && this.#isRecordOut(other)).length
    if (out >= most) {
      record.outUntilMs = undefined
      return
    }
    const { firstMs, longestMs } = this.#rules
    record.outUntilMs = this.#clock.nowMs() + Math.min(longestMs, firstMs * 2 ** Math.floor(record.ejections))
    record.ejections = Math.min(10, record.ejections + 1)
    record.failuresInARow = 0
  }
}

function fresh(): Record {
  return { failuresInARow: 0, tokenMs: undefined, answers: 0, outUntilMs: undefined, ejections: 0, isOnTrial: false }
}
