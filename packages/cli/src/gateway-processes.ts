/**
 * `quiver gateway --processes N`: this process starts N gateways and shares one port among them (node:cluster). It accepts connections
 * and hands them out in turn, serves nothing itself, starts again what has died, and carries what they have to say to each other. A
 * connection belongs to one process; whoever kills that kills its connections and no others.
 */
import cluster, { type Worker } from 'node:cluster'
import { Writable } from 'node:stream'
import { SiblingRelay, Siblings, systemClock, upwardSchema } from '@quiver/gateway'
import type { Logger } from '@quiver/protocol'
import { type GatewayIo, runGateway, STOPPING } from './gateway-command.ts'
import type { Config } from './option-schema.ts'
import { onStopSignals } from './stop-signals.ts'

/** Says to a process which one it is; read by nobody but this file's own processes. */
const SLOT = 'QUIVER_GATEWAY_SLOT'
const FIRST_PAUSE_MS = 200
const LONGEST_PAUSE_MS = 30_000
/** A process that served for this long has not failed at its start. */
const STABLE_MS = 10_000
/** After the second signal. */
const EXIT_AT_ONCE = 130

export interface ProcessesIo extends GatewayIo {
  readonly env: Readonly<Record<string, string | undefined>>
}

/** Runs the gateway of this configuration: in this process, or in as many as it asks for. @returns the exit code */
export async function runGatewayProcesses(config: Config, io: ProcessesIo): Promise<number> {
  if (config.processes === 1) return await runGateway(config, io)
  const slot = cluster.isWorker ? Number(io.env[SLOT]) : undefined
  return await (slot === undefined ? new ProcessGroup(config, io).run() : runOne(config, io, slot))
}

/** One of the processes. It ends with the one that started it: Node sees to that when the channel closes. */
async function runOne(config: Config, io: ProcessesIo, slot: number): Promise<number> {
  const { log } = io
  const siblings = new Siblings(
    { slot, count: config.processes },
    {
      send: (message) => {
        if (process.connected) process.send?.(message)
      },
      listen: (listener) => process.on('message', listener),
    },
    systemClock(),
  )
  // What is to be done or said once, the first one does and says.
  const silent = { ...io, stderr: new Writable({ write: (_chunk, _encoding, done) => done() }), log: withoutInfo(log) }
  return await runGateway(shareOf(config, slot), { ...(siblings.isFirst ? io : silent), siblings })
}

/** What one process may take of what the gateway may. */
function shareOf(config: Config, slot: number): Config {
  const { maxConcurrentRequests: most, processes } = config
  const share = Math.floor(most / processes) + (slot < most % processes ? 1 : 0)
  return {
    ...config,
    maxConcurrentRequests: most === 0 ? 0 : Math.max(1, share),
    ...(slot === 0 ? {} : { loraAdapters: [], preloadedAdapters: [] }),
  }
}

/** All processes see the same workers come and go. */
function withoutInfo(log: Logger): Logger {
  return (level, ...line) => {
    if (level !== 'info') log(level, ...line)
  }
}

class ProcessGroup {
  readonly #config: Config
  readonly #io: ProcessesIo
  readonly #clock = systemClock()
  readonly #relay = new SiblingRelay()
  readonly #running = new Map<number, Worker>()
  readonly #failuresInRow = new Map<number, number>()
  readonly #ready = new Set<number>()
  readonly #over = Promise.withResolvers<number>()
  #wasReady = false
  #isStopping = false
  #exitCode = 0

  constructor(config: Config, io: ProcessesIo) {
    this.#config = config
    this.#io = io
  }

  async run(): Promise<number> {
    const { stderr } = this.#io
    // Numbers that are not numbers stand in metrics, and JSON has none.
    cluster.setupPrimary({ serialization: 'advanced' })
    void onStopSignals({
      nowMs: this.#clock.nowMs,
      onFirst: () => {
        stderr.write(STOPPING)
        this.#stop(0)
      },
      onSecond: () => {
        for (const child of this.#running.values()) child.process.kill('SIGKILL')
        process.exit(EXIT_AT_ONCE)
      },
    })
    // The first one alone at first: what is wrong is said once.
    this.#start(0)
    return await this.#over.promise
  }

  #start(slot: number): void {
    const child = cluster.fork({ [SLOT]: String(slot) })
    let readyAtMs: number | undefined
    this.#running.set(slot, child)
    child.on('message', (raw: unknown) => {
      const parsed = upwardSchema.safeParse(raw)
      if (!parsed.success) return
      if (parsed.data.kind !== 'ready') {
        this.#relay.carry(slot, parsed.data)
        return
      }
      readyAtMs = this.#clock.nowMs()
      this.#relay.join(slot, (message) => {
        if (child.isConnected()) child.send(message)
      })
      this.#becameReady(slot, parsed.data.url)
    })
    // One that died while a message was on its way to it; its `exit` says all there is to say.
    child.on('error', () => {})
    child.once('exit', (code, signal) => {
      this.#relay.leave(slot)
      this.#running.delete(slot)
      this.#ended(slot, { code, how: signal ? `signal ${signal}` : `exit code ${code}` }, readyAtMs)
    })
  }

  #becameReady(slot: number, url: string): void {
    this.#ready.add(slot)
    const { processes } = this.#config
    if (this.#isStopping || this.#wasReady) return
    if (slot === 0 && this.#running.size === 1) for (let other = 1; other < processes; other += 1) this.#start(other)
    if (this.#ready.size < processes) return
    this.#wasReady = true
    this.#io.stdout.write(`Quiver's gateway is ready: ${url} (${processes} processes)\n`)
  }

  #ended(slot: number, { code, how }: { readonly code: number; readonly how: string }, readyAtMs: number | undefined): void {
    const { log } = this.#io
    if (this.#isStopping) {
      if (this.#running.size === 0) this.#over.resolve(this.#exitCode)
      return
    }
    // It has said itself why it cannot start, and would say the same again.
    if (!this.#ready.has(slot)) {
      this.#stop(code === 0 ? 1 : code)
      return
    }
    const wasStable = readyAtMs !== undefined && this.#clock.nowMs() - readyAtMs >= STABLE_MS
    const failures = wasStable ? 1 : (this.#failuresInRow.get(slot) ?? 0) + 1
    this.#failuresInRow.set(slot, failures)
    const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (failures - 1))
    log('warn', `a process of the gateway ended with ${how}; it is started again in ${pauseMs} ms`, { slot })
    this.#clock.after(pauseMs, () => {
      if (!this.#isStopping) this.#start(slot)
    })
  }

  /** Each process drains by itself: it says that it leaves, serves what still comes, finishes and ends. */
  #stop(exitCode: number): void {
    this.#exitCode = exitCode
    this.#isStopping = true
    if (this.#running.size === 0) this.#over.resolve(exitCode)
    for (const child of this.#running.values()) child.process.kill('SIGTERM')
  }
}
