import { type ChildProcess, spawn } from 'node:child_process'
import { type WorkerMessage, workerMessageSchema } from '@quiver/protocol'
import type { StepMark } from '@quiver/worker'
import { describeStep, StepRecord } from './step-record.ts'

export interface WorkerCommand {
  readonly command: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string | undefined>>
}

export interface WorkerExit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** What it computed last. */
  readonly lastStep?: StepMark
}

/**
 * A worker as a child process. It leads a process group of its own: a Ctrl-C on the terminal does not reach it past its parent,
 * and whatever it has started can be ended with it. When this process dies, the closed channel tells the worker to end itself.
 */
export class WorkerProcess {
  readonly #child: ChildProcess
  /** How it ended; a command that cannot be started ends with code 127. */
  readonly exit: Promise<WorkerExit>

  /** @param recordFolder where the worker's steps are written down while it runs */
  constructor(command: WorkerCommand, recordFolder: string, onMessage: (message: WorkerMessage) => void) {
    const record = StepRecord.open(recordFolder)
    this.#child = spawn(command.command, command.args, {
      env: command.env,
      detached: true,
      // What it writes goes to our standard error, whichever stream it uses.
      // The record comes last: it is file 4 of the worker.
      stdio: ['ignore', 2, 2, 'ipc', record?.fd ?? 'ignore'],
    })
    this.#child.on('message', (raw) => {
      const parsed = workerMessageSchema.safeParse(raw)
      if (parsed.success) onMessage(parsed.data)
    })
    this.exit = new Promise((resolve) => {
      this.#child.once('exit', (code, signal) => {
        // What it has started, such as a download, must not outlive it and meet the download of the next one.
        this.kill()
        const lastStep = record?.close()
        resolve({ code, signal, ...(lastStep === undefined ? {} : { lastStep }) })
      })
      this.#child.once('error', () => {
        // Of a command that cannot be started; a signal that cannot be sent is an error too, and the worker goes on.
        if (this.#child.pid !== undefined) return
        record?.close()
        resolve({ code: 127, signal: null })
      })
    })
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  /** Asks it to finish what it has and to end. */
  terminate(): void {
    this.#child.kill('SIGTERM')
  }

  /** Ends it and everything it has started, at once. */
  kill(): void {
    const { pid } = this.#child
    if (pid === undefined) return
    try {
      process.kill(-pid, 'SIGKILL')
    } catch {
      // The group is gone already.
    }
  }
}

export function describeExit({ code, signal, lastStep }: WorkerExit): string {
  const how = signal === null ? `exit code ${code}` : `signal ${signal}`
  return lastStep === undefined ? how : `${how} ${describeStep(lastStep)}`
}
