/** Tells a person who waits what a starting worker is doing: bars on a terminal, plain lines anywhere else. */
import type { Clock, Progress } from '@quiver/protocol'
import { SingleBar } from 'cli-progress'

/** Where it is written to: standard error in practice. */
export interface ReportOutput {
  readonly isTTY?: boolean
  write(text: string): unknown
}

export interface ProgressReport {
  show(progress: Progress): void
  /** Ends a bar that is still open, before something else is written. */
  end(): void
}

const verbs: Readonly<Record<Progress['phase'], string>> = {
  download: 'Downloading',
  build: 'Building',
  convert: 'Converting',
  load: 'Loading',
}

export function progressReport(output: ReportOutput & NodeJS.WritableStream, clock: Clock): ProgressReport {
  return output.isTTY === true ? new BarReport(output) : new LineReport(output, clock)
}

/** At most a line for each tenth of the way; where the way is not known, one in five seconds. */
export class LineReport implements ProgressReport {
  readonly #output: ReportOutput
  readonly #clock: Clock
  #title = ''
  #tenth = -1
  #lastLineMs = 0

  constructor(output: ReportOutput, clock: Clock) {
    this.#output = output
    this.#clock = clock
  }

  show(progress: Progress): void {
    const title = titleOf(progress)
    const tenth = progress.total > 0 ? Math.floor((progress.done / progress.total) * 10) : -1
    const isNew = title !== this.#title
    const isDue = progress.total > 0 ? tenth > this.#tenth : this.#clock.nowMs() - this.#lastLineMs >= UNKNOWN_INTERVAL_MS
    if (!isNew && !isDue) return
    this.#title = title
    this.#tenth = tenth
    this.#lastLineMs = this.#clock.nowMs()
    const amount = amountOf(progress)
    this.#output.write(`${title}${amount === '' ? '' : `: ${amount}`}\n`)
  }

  end(): void {
    this.#title = ''
  }
}

const UNKNOWN_INTERVAL_MS = 5000

/** One bar at a time. */
class BarReport implements ProgressReport {
  readonly #output: NodeJS.WritableStream
  #title = ''
  #bar: SingleBar | undefined

  constructor(output: NodeJS.WritableStream) {
    this.#output = output
  }

  show(progress: Progress): void {
    const title = titleOf(progress)
    if (title !== this.#title) {
      this.end()
      this.#title = title
      if (progress.total === 0) this.#output.write(`${title}\n`)
    }
    if (progress.total === 0) return
    if (this.#bar === undefined) {
      this.#bar = new SingleBar({ format: '{title} [{bar}] {amount}', stream: this.#output, hideCursor: null, barsize: 30 })
      this.#bar.start(progress.total, progress.done, { title, amount: amountOf(progress) })
    } else {
      this.#bar.setTotal(progress.total)
      this.#bar.update(progress.done, { amount: amountOf(progress) })
    }
    if (progress.done >= progress.total) this.end()
  }

  end(): void {
    this.#bar?.stop()
    this.#bar = undefined
    this.#title = ''
  }
}

function titleOf({ phase, label }: Progress): string {
  return `${verbs[phase]} ${label}`
}

function amountOf({ done, total, unit }: Progress): string {
  if (total === 0) return unit === 'bytes' && done > 0 ? megabytes(done) : ''
  const percent = `${Math.floor((done / total) * 100)} %`
  return unit === 'bytes' ? `${percent} (${megabytes(done)} of ${megabytes(total)})` : percent
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`
}
