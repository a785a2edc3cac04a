/**
 * What a worker was computing when it was killed. A process that is killed for want of memory says nothing any more, so it writes down every
 * step before it begins: a few bytes at the start of a file that has no name, which the process that started it holds open. What
 * is written there outlives the writer, costs some microseconds, and asks nothing of the reader while all goes well.
 */
import { randomUUID } from 'node:crypto'
import { closeSync, fstatSync, mkdirSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { StepMark } from '@quiver/worker'

/** Where a worker finds the file: the first after its three streams and the channel to its parent. */
export const STEP_RECORD_FD = 4
const RECORD_BYTES = 128

/** The side of the process that starts a worker. One for each start. */
export class StepRecord {
  readonly fd: number

  private constructor(fd: number) {
    this.fd = fd
  }

  /** @returns undefined where no file can be made: a worker runs without one as well */
  static open(folder: string): StepRecord | undefined {
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 })
      const path = join(folder, `step-${randomUUID()}`)
      const fd = openSync(path, 'wx+', 0o600)
      unlinkSync(path)
      return new StepRecord(fd)
    } catch {
      return undefined
    }
  }

  /** Reads it and lets the file go. @returns undefined when there was no step, or what is there is none */
  close(): StepMark | undefined {
    const bytes = Buffer.alloc(RECORD_BYTES)
    try {
      return parseStep(bytes.toString('latin1', 0, readSync(this.fd, bytes, 0, RECORD_BYTES, 0)))
    } catch {
      return undefined
    } finally {
      closeSync(this.fd)
    }
  }
}

/** The worker's side. @returns undefined when whoever has started it keeps no record */
export function stepWriter(fd = STEP_RECORD_FD): ((mark: StepMark) => void) | undefined {
  try {
    if (!fstatSync(fd).isFile()) return undefined
  } catch {
    return undefined
  }
  const bytes = Buffer.alloc(RECORD_BYTES)
  return ({ step, rows, sequences, isOver }) => {
    bytes.fill(' ').write(`${step} ${rows} ${sequences} ${isOver ? 'over' : 'begun'}`, 'latin1')
    try {
      writeSync(fd, bytes, 0, RECORD_BYTES, 0)
    } catch {
      // A disk that is full: nobody waits for this.
    }
  }
}

function parseStep(text: string): StepMark | undefined {
  const [, step, rows, sequences, end] = /^(\d{1,15}) (\d{1,9}) (\d{1,9}) (begun|over) *$/.exec(text) ?? []
  if (step === undefined) return undefined
  return { step: Number(step), rows: Number(rows), sequences: Number(sequences), isOver: end === 'over' }
}

export function describeStep({ step, rows, sequences, isOver }: StepMark): string {
  return `${isOver ? 'after' : 'in'} step ${step} of ${rows} rows and ${sequences} sequences`
}
