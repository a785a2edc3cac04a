/** The time that steps take, by the number of their rows, as it was measured. */

/** Rows of a step: of answers, with those of their drafts, and of prompts. */
export interface RowCounts {
  readonly answers: number
  readonly prompts: number
}

/** So many rows took so long. */
export interface MeasuredTime {
  readonly rows: number
  readonly ms: number
}

/** What was measured lately: plain data, for a step to be decided on. Each list ascends by rows and has at least one entry. */
export interface StepPace {
  /** Whole steps with rows of answers only. */
  readonly answers: readonly MeasuredTime[]
  /** What rows of prompts add to a step; empty before the first prompt was computed. */
  readonly prompts: readonly MeasuredTime[]
  /** The median over the tokens of the last steps of what a step without prompts took, or would have taken. */
  readonly typicalMs: number
}

/** Samples of one number of rows; their median counts, so that a pause of the process or a slow page does not. */
const SAMPLES = 9
/** What was measured this many steps ago may come of another load, and is measured again. */
const STEPS_REMEMBERED = 2_000
/** Steps whose pace makes the typical one, and after how many of them it is worked out again. */
const TYPICAL_OVER = 256
const TYPICAL_EVERY = 16

/**
 * Time per row over the time of the first row, of answers and of prompts: carries a measured time over to numbers of rows
 * that were not measured yet. Every measured one takes its place; these only say where to begin.
 */
const ANSWER_SHARE = 0.2
const PROMPT_SHARE = 0.1

/** Collects the times of steps. Knows no clock: it is told. */
export class StepTimes {
  readonly #answers = new Table(ANSWER_SHARE)
  readonly #prompts = new Table(PROMPT_SHARE)
  readonly #recent: MeasuredTime[] = []
  #typicalMs = 0
  #step = 0

  /** A step of so many rows, all of its work included, took so long. A clock that stood still says nothing. */
  record({ answers, prompts }: RowCounts, ms: number): void {
    if (!(ms > 0)) return
    this.#step += 1
    if (prompts === 0) this.#answers.add(answers, ms, this.#step)
    const { points } = this.#answers
    const answersMs = answers === 0 ? 0 : timeOf(points, ANSWER_SHARE, answers)
    if (prompts > 0 && (answers === 0 || points.length > 0)) {
      this.#prompts.add(prompts, Math.max(0, ms - answersMs), this.#step)
    }
    if (answers === 0 || points.length === 0) return
    this.#recent.push({ rows: answers, ms: answersMs })
    if (this.#recent.length > TYPICAL_OVER) this.#recent.shift()
    if (this.#typicalMs === 0 || this.#step % TYPICAL_EVERY === 0) this.#typicalMs = medianByRows(this.#recent)
  }

  /** undefined before a step of answers alone was measured. */
  pace(): StepPace | undefined {
    const answers = this.#answers.points
    if (answers.length === 0) return undefined
    return { answers, prompts: this.#prompts.points, typicalMs: this.#typicalMs }
  }
}

/** @returns milliseconds that a step is expected to take; 0 for one without rows */
export function stepMs(pace: StepPace, { answers, prompts }: RowCounts): number {
  return (answers === 0 ? 0 : timeOf(pace.answers, ANSWER_SHARE, answers)) + promptMs(pace, prompts)
}

/** @returns milliseconds that rows of prompts add to a step; 0 while nothing was measured of any */
export function promptMs(pace: StepPace, rows: number): number {
  return rows === 0 || pace.prompts.length === 0 ? 0 : timeOf(pace.prompts, PROMPT_SHARE, rows)
}

/** On the line between the measured neighbours; beyond the ends, the end's time by the share of each further row. */
function timeOf(points: readonly MeasuredTime[], share: number, rows: number): number {
  const above = points.findIndex((point) => point.rows >= rows)
  const right = points[above === -1 ? points.length - 1 : above]
  const left = points[above - 1]
  if (right === undefined) return 0
  if (above === -1 || left === undefined) return right.ms * (shape(share, rows) / shape(share, right.rows))
  return left.ms + ((right.ms - left.ms) * (rows - left.rows)) / (right.rows - left.rows)
}

function shape(share: number, rows: number): number {
  return 1 + share * (rows - 1)
}

/** The times of one kind of row. */
class Table {
  readonly #share: number
  readonly #samples = new Map<number, { readonly ms: number; readonly step: number }[]>()
  #points: readonly MeasuredTime[] = []

  constructor(share: number) {
    this.#share = share
  }

  get points(): readonly MeasuredTime[] {
    return this.#points
  }

  add(rows: number, ms: number, step: number): void {
    const key = roundedRows(rows)
    const samples = this.#samples.get(key) ?? []
    this.#samples.set(key, samples)
    samples.push({ ms: ms * (shape(this.#share, key) / shape(this.#share, rows)), step })
    if (samples.length > SAMPLES) samples.shift()
    this.#forget(step - STEPS_REMEMBERED)
    this.#points = Array.from(this.#samples, ([of, known]) => ({
      rows: of,
      ms: medianOf(known.map((sample) => sample.ms)),
    })).sort((a, b) => a.rows - b.rows)
  }

  #forget(before: number): void {
    for (const [rows, samples] of this.#samples) {
      while ((samples[0]?.step ?? before) < before) samples.shift()
      if (samples.length === 0) this.#samples.delete(rows)
    }
  }
}

/** Every number up to 8 for itself, further on four for each doubling: a table has few entries, whatever the rows are. */
function roundedRows(rows: number): number {
  if (rows <= 8) return rows
  const step = 2 ** (Math.floor(Math.log2(rows)) - 2)
  return Math.round(rows / step) * step
}

function medianOf(values: readonly number[]): number {
  const ordered = values.toSorted((a, b) => a - b)
  return ordered[(ordered.length - 1) >> 1] ?? 0
}

function medianByRows(times: readonly MeasuredTime[]): number {
  let left = times.reduce((sum, { rows }) => sum + rows, 0) / 2
  const ordered = times.toSorted((a, b) => a.ms - b.ms)
  for (const { rows, ms } of ordered) {
    left -= rows
    if (left <= 0) return ms
  }
  return ordered.at(-1)?.ms ?? 0
}
