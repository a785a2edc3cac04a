/**
 * A server that a test runs beside itself. It must be gone when the test process is gone, however that ended, and so must
 * its files: a small shell stands between the two and holds the other end of a pipe. When the pipe closes, because the test
 * process closed it or was killed, the shell kills the server and removes what it left. The shell and its server are a
 * session of their own, so that Ctrl-C in a terminal does not reach them before they can clean up.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createServer } from 'node:net'
import { createInterface, type Interface } from 'node:readline'

export interface GuardedCommand {
  readonly command: string
  readonly args: readonly string[]
  /** The server's own, removed with everything in it at the end; its output goes to `log` there. */
  readonly folder: string
  /** Files elsewhere that go at the end too. */
  readonly litter?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
}

// $1 the folder, $2 how many pieces of litter follow; then they, then the command.
const GUARD = `
folder=$1; count=$2; shift 2
litter=
while [ "$count" -gt 0 ]; do litter="$litter '$1'"; shift; count=$((count - 1)); done
run() { "$@" </dev/null >>"$folder/log" 2>&1 & pid=$!; echo "$pid"; }
end() { kill -KILL "$pid"; wait "$pid"; } 2>/dev/null
run "$@"
while read -r word; do
  case $word in
    start) run "$@" ;;
    kill) end; echo ended ;;
  esac
done
end
eval "rm -rf \\"\\$folder\\" $litter"
`

export class GuardedProcess {
  readonly #guard: ChildProcess
  readonly #answers: AsyncIterator<string>
  readonly #lines: Interface
  readonly #ended: Promise<void>
  #pid = -1

  private constructor({ command, args, folder, litter = [], env = {} }: GuardedCommand) {
    this.#guard = spawn('sh', ['-c', GUARD, 'guard', folder, String(litter.length), ...litter, command, ...args], {
      detached: true,
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, ...env },
    })
    this.#ended = new Promise((resolve) => this.#guard.once('close', () => resolve()))
    // The guard may be gone already when the pipe is written to or closed.
    this.#guard.stdin?.on('error', () => undefined)
    this.#lines = createInterface({ input: this.#guard.stdout ?? process.stdin })
    this.#answers = this.#lines[Symbol.asyncIterator]()
  }

  /** Resolves when the process runs, which does not mean that it is ready. */
  static async start(command: GuardedCommand): Promise<GuardedProcess> {
    const started = new GuardedProcess(command)
    started.#pid = Number(await started.#answer())
    return started
  }

  get pid(): number {
    return this.#pid
  }

  /** As the kernel does to a process that must go now. Resolves when it is gone. */
  async kill(): Promise<void> {
    this.#guard.stdin?.write('kill\n')
    await this.#answer()
  }

  /** Runs the command once more, after `kill`. */
  async startAgain(): Promise<void> {
    this.#guard.stdin?.write('start\n')
    this.#pid = Number(await this.#answer())
  }

  /** Stops its time: connections are taken by the kernel, and nobody answers. */
  pause(): void {
    process.kill(this.#pid, 'SIGSTOP')
  }

  resume(): void {
    process.kill(this.#pid, 'SIGCONT')
  }

  /** Ends it, whatever its state, and resolves when it and its files are gone. */
  async stop(): Promise<void> {
    this.#guard.stdin?.end()
    await this.#ended
    this.#lines.close()
  }

  async #answer(): Promise<string> {
    const { done, value } = await this.#answers.next()
    if (done === true) throw new Error('the guard of a test server is gone')
    return value
  }
}

/** Ports of 127.0.0.1 that were free just now. Held all at once, so that they differ. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer())
  const ports: number[] = []
  for (const server of servers) {
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve))
    const address = server.address()
    if (address === null || typeof address === 'string') throw new Error('a listening server has a port')
    ports.push(address.port)
  }
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}

/**
 * Asks until `isReady` says yes, which is the only thing that a server which writes no file and calls nobody offers.
 * @throws Error with what `explain` finds when the process ends first, or after `timeoutMs`
 */
export async function untilReady(
  isReady: () => Promise<boolean>,
  { timeoutMs, isAlive, explain }: { timeoutMs: number; isAlive: () => Promise<boolean>; explain: () => Promise<string> },
): Promise<void> {
  for (const begun = performance.now(); !(await isReady()); ) {
    if (!(await isAlive())) throw new Error(`the server ended before it was ready:\n${await explain()}`)
    if (performance.now() - begun > timeoutMs)
      throw new Error(`the server is not ready after ${timeoutMs} ms:\n${await explain()}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
