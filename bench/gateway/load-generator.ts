/** Sends requests and takes times, in a process of its own: it gets loads as messages of its channel and answers each with its result. */
import { connect, type Socket } from 'node:net'
import { seededRandom } from '../shared/random.ts'
import { MessageCutter, postOf } from './http-wire.ts'
import { type Load, type LoadResult, loadSchema } from './load.ts'

const LATENCIES_KEPT = 100_000
/** Connections of an open load; what finds none waits for the next one that is free. */
const OPEN_CONNECTIONS = 256
const EVENT = Buffer.from('data:')

class Tally {
  answered = 0
  failed = 0
  events = 0
  firstFailure: string | undefined
  readonly latenciesMs: number[] = []
  fromMs = Number.POSITIVE_INFINITY
  untilMs = Number.POSITIVE_INFINITY

  isCounted(atMs: number): boolean {
    return atMs >= this.fromMs && atMs < this.untilMs
  }

  fail(what: string): void {
    this.failed += 1
    this.firstFailure ??= what.slice(0, 300)
  }
}

/** One connection with at most one request on it. */
class Lane {
  readonly #socket: Socket
  readonly #request: Buffer
  readonly #tally: Tally
  readonly #onFree: (lane: Lane) => void
  #sentAtMs = 0
  #line = ''
  isBusy = false
  isGone = false

  constructor(load: Load, request: Buffer, tally: Tally, onFree: (lane: Lane) => void) {
    this.#request = request
    this.#tally = tally
    this.#onFree = onFree
    const { hostname, port } = new URL(load.url)
    this.#socket = connect({ host: hostname, port: Number(port), noDelay: true })
    const countsEvents = load.kind === 'tokens'
    const cutter = new MessageCutter({
      head: ({ line }) => {
        this.#line = line
      },
      body: (bytes) => {
        if (countsEvents) this.#count(bytes)
        else if (!this.#line.includes(' 200 ')) tally.firstFailure ??= `${this.#line}: ${bytes.toString().slice(0, 200)}`
      },
      end: () => this.#answered(),
    })
    this.#socket.on('data', (bytes: Buffer) => cutter.push(bytes))
    this.#socket.on('error', (error) => this.#lost(error.message))
    this.#socket.on('close', () => this.#lost('the connection was closed'))
  }

  /** @param sinceMs when its time began */
  send(sinceMs = performance.now()): void {
    this.isBusy = true
    this.#sentAtMs = sinceMs
    this.#socket.write(this.#request)
  }

  close(): void {
    this.isGone = true
    this.#socket.destroy()
  }

  #count(bytes: Buffer): void {
    if (!this.#tally.isCounted(performance.now())) return
    for (let at = bytes.indexOf(EVENT); at !== -1; at = bytes.indexOf(EVENT, at + EVENT.length)) this.#tally.events += 1
  }

  #answered(): void {
    const nowMs = performance.now()
    this.isBusy = false
    if (!this.#line.includes(' 200 ')) this.#tally.fail(this.#line)
    else if (this.#tally.isCounted(this.#sentAtMs)) {
      this.#tally.answered += 1
      if (this.#tally.latenciesMs.length < LATENCIES_KEPT) this.#tally.latenciesMs.push(nowMs - this.#sentAtMs)
    }
    this.#onFree(this)
  }

  #lost(why: string): void {
    if (this.isGone) return
    this.isGone = true
    if (this.isBusy) this.#tally.fail(why)
  }
}

async function run(load: Load): Promise<LoadResult> {
  const tally = new Tally()
  const request = postOf(load.path, new URL(load.url).host, load.body, load.headers)
  const beganMs = performance.now()
  tally.fromMs = beganMs + load.warmupSeconds * 1000
  tally.untilMs = tally.fromMs + load.seconds * 1000
  const isOver = () => performance.now() >= tally.untilMs
  const lanes = load.kind === 'open' ? await runOpen(load, request, tally, isOver) : await runClosed(load, request, tally, isOver)
  for (const lane of lanes) lane.close()
  const { answered, failed, events, latenciesMs, firstFailure } = tally
  return {
    ...{ answered, failed, events, latenciesMs, seconds: load.seconds },
    ...(firstFailure === undefined ? {} : { firstFailure }),
  }
}

async function runClosed(
  load: Extract<Load, { kind: 'closed' | 'tokens' }>,
  request: Buffer,
  tally: Tally,
  isOver: () => boolean,
): Promise<Lane[]> {
  const next = (lane: Lane) => {
    if (!isOver() && !lane.isGone) lane.send()
  }
  const lanes = Array.from({ length: load.connections }, () => new Lane(load, request, tally, next))
  for (const lane of lanes) lane.send()
  await until(isOver)
  return lanes
}

/** Poisson arrivals. What is due is sent with the next tick of the clock, when its time begins, whether a connection is free or not. */
async function runOpen(
  load: Extract<Load, { kind: 'open' }>,
  request: Buffer,
  tally: Tally,
  isOver: () => boolean,
): Promise<Lane[]> {
  const random = seededRandom(load.seed)
  const lanes: Lane[] = []
  const free: Lane[] = []
  /** Since when those wait that found no connection. */
  const owed: number[] = []
  const sendOne = (sinceMs: number) => {
    let lane = free.pop()
    while (lane?.isGone === true) lane = free.pop()
    if (lane === undefined && lanes.length >= OPEN_CONNECTIONS) {
      owed.push(sinceMs)
      return
    }
    if (lane === undefined) {
      lane = new Lane(load, request, tally, (done) => {
        free.push(done)
        const next = owed.shift()
        if (next !== undefined) sendOne(next)
      })
      lanes.push(lane)
    }
    lane.send(sinceMs)
  }
  let dueMs = performance.now()
  await until(() => {
    const nowMs = performance.now()
    while (dueMs <= nowMs) {
      sendOne(nowMs)
      dueMs -= (Math.log(1 - random()) / load.perSecond) * 1000
    }
    return isOver()
  })
  return lanes
}

/** Looks once each millisecond. */
function until(isOver: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = setInterval(() => {
      if (!isOver()) return
      clearInterval(look)
      resolve()
    }, 1)
  })
}

process.on('message', (message) => {
  void run(loadSchema.parse(message)).then((result) => process.send?.({ result }))
})
process.once('disconnect', () => process.exit(0))
process.send?.({ ready: true })
