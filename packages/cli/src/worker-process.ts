import { type ChildProcess, spawn } from 'node:child_process'
import { type WorkerMessage, workerMessageSchema } from '@quiver/protocol'

export interface WorkerCommand {
  readonly command: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string | undefined>>
}

export interface WorkerExit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/**
 * A worker as a child process. It leads a process group of its own: a Ctrl-C on the terminal does not reach it past its parent,
 * and whatever it has started can be ended with it. When this process dies, the closed channel tells the worker to end itself.
 */
export class WorkerProcess {
  readonly #child: ChildProcess
  /** How it ended; a command that cannot be started ends with code 127. */
  readonly exit: Promise<WorkerExit>

  constructor(command: WorkerCommand, onMessage: (message: WorkerMessage) => void) {
    this.#child = spawn(command.command, command.args, {
      env: command.env,
      detached: true,
      // What it writes goes to our standard error, whichever stream it uses.
      stdio: ['ignore', 2, 2, 'ipc'],
    })
    this.#child.on('message', (raw) => {
      const parsed = workerMessageSchema.safeParse(raw)
      if (parsed.success) onMessage(parsed.data)
    })
    this.exit = new Promise((resolve) => {
      this.#child.once('exit', (code, signal) => {
        // What it has started, such as a download, must not outlive it and meet the download of the next one.
        this.kill()
        resolve({ code, signal })
      })
      this.#child.once('error', () => resolve({ code: 127, signal: null }))
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

export function describeExit({ code, signal }: WorkerExit): string {
  return signal === null ? `exit code ${code}` : `signal ${signal}`
}
