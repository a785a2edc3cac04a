/** A worker without a model: real HTTP, and a script that says what each run answers. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import {
  type AdapterOrder,
  type AdapterPresences,
  adapterOrderSchema,
  httpStatus,
  limits,
  type RunEvent,
  type RunRequest,
  runRequestSchema,
  type TokenizeRequest,
  tokenizeRequestSchema,
  toServingError,
  type WorkerEvent,
  type WorkerInfo,
  type WorkerLoad,
  type WorkerState,
} from '@quiver/protocol'
import { smollm2Layout } from './smollm2-layout.ts'

export interface ScriptedRun {
  readonly request: RunRequest
  send(...events: RunEvent[]): void
  /** Bytes as they are, for broken answers. */
  sendRaw(bytes: string | Uint8Array): void
  end(): void
  /** Whether the gateway has left so much unread that what is sent now only waits here. */
  isFull(): boolean
  /** Cuts the connection as a killed process does. */
  cut(): void
  /** Resolves when the gateway has left before the end. */
  readonly left: Promise<void>
}

export type Script = (run: ScriptedRun) => void

export const token = (text: string, last = false): RunEvent => ({
  type: 'token',
  id: text.length,
  text,
  logprob: -0.5,
  special: false,
  last,
})

export const accepted: RunEvent = { type: 'accepted', promptTokens: 3, queuePosition: 0 }

export const done = (generatedText: string, more: Partial<Extract<RunEvent, { type: 'done' }>> = {}): RunEvent => ({
  type: 'done',
  finishReason: 'eos_token',
  generatedText,
  promptTokens: 3,
  generatedTokens: 2,
  queueMs: 1,
  inferenceMs: 20,
  firstTokenMs: 11,
  ...more,
})

/** Two tokens, `Hello` and ` world`, or an embedding of two numbers; the seed comes back as a worker reports it. */
export const helloWorld: Script = (run) => {
  const { seed } = run.request.sampling
  if (run.request.goal === 'embedding') {
    // 1 and -2.
    run.send(accepted, { type: 'embedding', values: 'AACAPwAAAMA=' }, done('', { generatedTokens: 0, finishReason: 'length' }))
    run.end()
    return
  }
  run.send(accepted, token('Hello'), token(' world', true), done('Hello world', seed === undefined ? {} : { seed }))
  run.end()
}

export const scriptedInfo: WorkerInfo = {
  workerId: 'scripted',
  version: '0.0.0',
  model: { id: 'smollm2-135m-instruct', sha: 'a'.repeat(64), family: 'llama', dtype: 'int8', vocabSize: 49152 },
  engine: { kind: 'scripted', device: 'cpu', lora: 'none' },
  layout: smollm2Layout,
  limits: { sequences: 4, totalTokens: 2048, inputTokens: 2047, slots: 32, maxRank: 64, waiting: 4 },
}

export const scriptedLoad: WorkerLoad = {
  state: 'ready',
  running: 0,
  waiting: 0,
  queuedTokens: 0,
  tokensPerSecond: 1_000,
  turnoverMs: 100,
  freeSlots: 32,
  hasSlotToGive: true,
  victim: { requestsPerSecond: 0, reloadMs: 0 },
  reload: {
    ram: { fixedMs: 1, msPerMib: 1 },
    disk: { fixedMs: 2, msPerMib: 2 },
    origin: { fixedMs: 20, msPerMib: 20 },
  },
}

export const scriptedState: WorkerState = {
  running: 2,
  waiting: 3,
  loading: 1,
  slots: [{ state: 'free' }, { state: 'loading' }, { state: 'resident' }, { state: 'resident' }],
  leases: { adapters: 4, slots: 2 },
  tenants: [{ tenant: 'acme', waiting: 1, running: 2, servedTokens: 300 }],
  steps: 50,
  failedSteps: 1,
  prefillRows: 300,
  decodeRows: 70,
  admitted: 9,
  loads: 5,
  finished: { length: 4, eos_token: 3 },
  prefix: { hits: 31, misses: 32, cachedTokens: 33, blocks: 34, bytes: 35_000, budgetBytes: 36_000, evicted: 37 },
  tiers: {
    device: { bytes: 2000, evicted: 6 },
    ram: { bytes: 3000, heldBytes: 1500, evicted: 7, budgetBytes: 8000 },
    disk: { bytes: 4000, hits: 11, misses: 12, damaged: 13, evicted: 8, writeFailures: 14 },
  },
  adapters: {
    found: { device: 21, ram: 22, arriving: 23, absent: 24 },
    arrived: { disk: 25, origin: 26, merge: 27 },
    failedLoads: 28,
    slotsWanted: 6,
    pinned: 1,
    pinnedBytes: 1000,
    quarantined: 2,
  },
}

/** One adapter in a slot and pinned, one that is not tried again for a while. */
export const scriptedAdapters: AdapterPresences = {
  adapters: [
    { digest: 'a'.repeat(64), state: 'resident', tier: 'device', bytes: 1000, leases: 1, pinned: true, slot: 2 },
    {
      digest: 'c'.repeat(64),
      state: 'quarantined',
      bytes: 0,
      leases: 0,
      pinned: false,
      cause: 'adapter_invalid',
      remainingMs: 5000,
    },
  ],
  slotsWanted: 6,
}

/** One token a character; texts of more than ten are refused. */
function answerTokenize({ text, addSpecial }: TokenizeRequest, outgoing: ServerResponse): void {
  if (text.length > 10) {
    outgoing.writeHead(422).end(JSON.stringify({ error: '`inputs` must have at most 10 characters', code: 'invalid_parameters' }))
    return
  }
  const tokens = Array.from(text, (character, at) => ({ id: 5, text: character, start: at, stop: at + 1 }))
  const special = addSpecial ? [{ id: 1, text: '<s>', start: 0, stop: 0 }] : []
  outgoing.end(JSON.stringify({ tokens: [...special, ...tokens] }))
}

export class ScriptedWorker {
  readonly token = 'the-secret'
  /** Every run request that arrived, in order. */
  readonly requests: RunRequest[] = []
  script: Script = helloWorld
  /** Every order about an adapter that arrived, in order. */
  readonly orders: { readonly kind: string; readonly adapter: AdapterOrder['adapter'] }[] = []
  /** Answers of orders; what it throws is answered as a refusal. */
  onOrder: (kind: string, order: AdapterOrder) => AdapterPresences | Promise<AdapterPresences> = () => scriptedAdapters
  isHealthy = true
  /** What it says of itself. */
  info: WorkerInfo = scriptedInfo
  /** What it tells who listens first; changes are told with `tell`. */
  load: WorkerLoad = scriptedLoad
  holds: Extract<WorkerEvent, { type: 'snapshot' }>['adapters'] = []
  state: WorkerState = scriptedState
  /** Whether it sends heartbeats. */
  beats = true
  readonly #listeners = new Set<ServerResponse>()
  #sequence = 0
  /** Whether `/v1/state` is answered; otherwise it hangs. */
  tellsState = true
  readonly #server: Server

  private constructor(server: Server) {
    this.#server = server
  }

  static async start(): Promise<ScriptedWorker> {
    const server = createServer((incoming, outgoing) => void worker.#answer(incoming, outgoing))
    const worker = new ScriptedWorker(server)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return worker
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** Connections that are open now, but for those over which it is listened to. */
  connectionCount(): Promise<number> {
    return new Promise((resolve, reject) =>
      this.#server.getConnections((error, count) => (error ? reject(error) : resolve(count - this.#listeners.size))),
    )
  }

  /** Sends every listener a delta. */
  tell(delta: Omit<Extract<WorkerEvent, { type: 'delta' }>, 'type' | 'epoch' | 'sequence'>): void {
    this.#sequence += 1
    if (delta.load !== undefined) this.load = delta.load
    const line = JSON.stringify({ type: 'delta', epoch: this.info.workerId, sequence: this.#sequence, ...delta })
    for (const listener of this.#listeners) listener.write(`${line}\n`)
  }

  /** Sends every listener a message of a kind that this version does not know. */
  tellStrange(message: { readonly type: string }): void {
    this.#sequence += 1
    const line = JSON.stringify({ epoch: this.info.workerId, sequence: this.#sequence, ...message })
    for (const listener of this.#listeners) listener.write(`${line}\n`)
  }

  /** Loses one delta on its way. */
  skip(): void {
    this.#sequence += 1
  }

  /** Ends every listener's stream, as one that is cut. */
  cutListeners(): void {
    for (const listener of this.#listeners) listener.destroy()
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve))
    this.#server.closeAllConnections()
    await closed
  }

  async #answer(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const isAllowed = incoming.headers.authorization === `Bearer ${this.token}`
    if (incoming.url === '/health') return void outgoing.writeHead(this.isHealthy ? 200 : 503).end()
    if (!isAllowed) return void outgoing.writeHead(401).end()
    if (incoming.url === '/v1/info') return void outgoing.end(JSON.stringify(this.info))
    if (incoming.url === '/v1/events') return this.#listen(outgoing)
    if (incoming.url === '/v1/state') return void (this.tellsState && outgoing.end(JSON.stringify(this.state)))
    const { pathname, searchParams } = new URL(incoming.url ?? '/', 'http://worker')
    if (pathname === '/v1/adapters') {
      const digest = searchParams.get('digest')
      const adapters = scriptedAdapters.adapters.filter((one) => digest === null || one.digest === digest)
      return void outgoing.end(JSON.stringify({ ...scriptedAdapters, adapters }))
    }
    const chunks: Uint8Array[] = []
    for await (const chunk of incoming) chunks.push(chunk)
    const body: unknown = JSON.parse(Buffer.concat(chunks).toString())
    if (incoming.url === '/v1/tokenize') return answerTokenize(tokenizeRequestSchema.parse(body), outgoing)
    if (pathname.startsWith('/v1/adapters/')) return await this.#answerOrder(pathname, adapterOrderSchema.parse(body), outgoing)
    const request = runRequestSchema.parse(body)
    this.requests.push(request)
    outgoing.writeHead(200, { 'content-type': 'application/x-ndjson' })
    outgoing.flushHeaders()
    outgoing.on('error', () => {})
    this.script({
      request,
      send: (...events) => outgoing.write(events.map((event) => `${JSON.stringify(event)}\n`).join('')),
      sendRaw: (bytes) => outgoing.write(bytes),
      end: () => outgoing.end(),
      isFull: () => outgoing.writableNeedDrain,
      cut: () => outgoing.destroy(),
      left: new Promise((resolve) => outgoing.once('close', () => outgoing.writableFinished || resolve())),
    })
  }

  #listen(outgoing: ServerResponse): void {
    this.#listeners.add(outgoing)
    const beat = setInterval(() => this.beats && outgoing.write('\n'), limits.eventHeartbeatMs)
    outgoing.once('close', () => {
      this.#listeners.delete(outgoing)
      clearInterval(beat)
    })
    const stamp = { epoch: this.info.workerId, sequence: this.#sequence }
    outgoing.write(`${JSON.stringify({ type: 'snapshot', ...stamp, load: this.load, adapters: this.holds })}\n`)
  }

  async #answerOrder(pathname: string, order: AdapterOrder, outgoing: ServerResponse): Promise<void> {
    const kind = pathname.slice('/v1/adapters/'.length)
    this.orders.push({ kind, adapter: order.adapter })
    try {
      outgoing.end(JSON.stringify(await this.onOrder(kind, order)))
    } catch (thrown) {
      const { code, message } = toServingError(thrown)
      outgoing.writeHead(httpStatus[code]).end(JSON.stringify({ error: message, code }))
    }
  }
}
