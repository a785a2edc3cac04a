/** Runs `quiver` as a user does: a real process with a data folder of its own and the shared model cache. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { childrenOf } from './processes.ts'

/** Where this run of the tests keeps models, as `quiver serve` does by default. */
export function cacheFolder(): string {
  return outsideEnvironment()['QUIVER_CACHE'] ?? join(homedir(), '.cache/quiver')
}

function outsideEnvironment(): Record<string, string | undefined> {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith('QUIVER_') || name === 'QUIVER_CACHE'),
  )
}

export interface QuiverOptions {
  /** Beyond what the test itself runs with; `QUIVER_*` of the outside are not passed on, but for QUIVER_CACHE. */
  readonly env?: Readonly<Record<string, string>>
  readonly args?: readonly string[]
  /** `serve` without it. */
  readonly command?: 'serve' | 'gateway' | 'worker'
  /** Starts it by `npm start`, as a newcomer does. */
  readonly underNpm?: true
}

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export class QuiverProcess {
  readonly exit: Promise<Exit>
  readonly #child: ChildProcess
  readonly #dataFolder: string
  #output = ''
  #waiting: (() => void)[] = []

  private constructor(child: ChildProcess, dataFolder: string) {
    this.#child = child
    this.#dataFolder = dataFolder
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text) => {
        this.#output += text
        this.#wake()
      })
    }
    this.exit = new Promise((resolve) =>
      child.once('close', (code, signal) => {
        this.#wake()
        resolve({ code, signal })
      }),
    )
  }

  static async start({ env = {}, args = [], command: what = 'serve', underNpm }: QuiverOptions = {}): Promise<QuiverProcess> {
    const dataFolder = await mkdtemp(join(tmpdir(), 'quiver-data-'))
    const root = join(import.meta.dirname, '../..')
    const [command, first]: [string, string[]] =
      underNpm === true ? ['npm', ['start', '--']] : [process.execPath, [join(root, 'packages/cli/src/main.ts'), what]]
    const child = spawn(command, [...first, ...args], {
      cwd: root,
      env: { ...outsideEnvironment(), QUIVER_PORT: '0', QUIVER_DATA: dataFolder, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    return new QuiverProcess(child, dataFolder)
  }

  get pid(): number {
    return this.#child.pid ?? -1
  }

  /** Everything written so far, both streams together. */
  get output(): string {
    return this.#output
  }

  /** Process id of the worker that runs now. @throws Error when there is none */
  async workerPid(): Promise<number> {
    const [pid] = await childrenOf(this.pid)
    if (pid === undefined) throw new Error(`quiver has no worker:\n${this.#output}`)
    return pid
  }

  /** Resolves with the match once the output has it. @throws Error when the process ends before */
  async whenWritten(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const found = pattern.exec(this.#output)
      if (found !== null) return found
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) {
        throw new Error(`quiver ended before it wrote ${pattern}:\n${this.#output}`)
      }
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name)
  }

  /** Ends it in an orderly way and removes its data. */
  async stop(): Promise<Exit> {
    this.signal('SIGTERM')
    const exit = await this.exit
    await rm(this.#dataFolder, { recursive: true, force: true })
    return exit
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve()
  }
}

export interface QuiverServer {
  readonly url: string
  readonly process: QuiverProcess
  stop(): Promise<Exit>
}

/** Starts and waits until it says that it is ready; the first time on a machine that takes a download and a conversion. */
export async function startQuiver(options: QuiverOptions = {}): Promise<QuiverServer> {
  const started = await QuiverProcess.start(options)
  try {
    const [, url = ''] = await started.whenWritten(/Quiver is ready: (\S+)/)
    return { url, process: started, stop: () => started.stop() }
  } catch (error) {
    await started.stop()
    throw error
  }
}
