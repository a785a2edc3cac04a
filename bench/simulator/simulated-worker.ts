/** A worker whose device is a model of time: its plans are made by the real planner, its adapters kept by the real tiers. */
import assert from 'node:assert/strict'
import type { AdapterDigest, HeldPresence, SequenceId, WorkerEvent, WorkerLoad } from '@quiver/protocol'
import { LoadMeter } from '../../packages/worker/src/load-meter.ts'
import { planStep } from '../../packages/worker/src/step/plan-step.ts'
import { ServiceLedger } from '../../packages/worker/src/step/service-ledger.ts'
import type { Admission, PlannedFinish, RunPlan, StepPlan, StepView } from '../../packages/worker/src/step/step-plan.ts'
import { StepTimes } from '../../packages/worker/src/step/step-times.ts'
import type { Content } from './contents.ts'
import type { DeviceModel } from './device-model.ts'
import { partyOf, type Run, type RunListener, runningView, type SimulatedRequest, waitingView } from './simulated-run.ts'
import { SimulatedTiers } from './simulated-tiers.ts'
import type { Simulation } from './simulation.ts'
import type { WorkerCapacity, WorkerSurroundings } from './worker-capacity.ts'

export class SimulatedWorker {
  readonly id: string
  readonly #simulation: Simulation
  readonly #model: DeviceModel
  readonly capacity: WorkerCapacity
  readonly #surroundings: WorkerSurroundings
  #meter = new LoadMeter()
  readonly #times = new StepTimes()
  #ledger = new ServiceLedger()
  #tiers: SimulatedTiers
  #waiting: Run[] = []
  #running: Run[] = []
  #isStepping = false
  #hasReported = false
  /** Counts starts; what an earlier start has planned does not happen. */
  #start = 0
  #isAlive = true
  #resumesAtMs = 0
  #slowness = 1
  #sequences = 0
  #events = 0
  /** Requests that came, those whose adapter was in a slot by then, steps, and computed rows: since the first start. */
  readonly counts = { requests: 0, hits: 0, steps: 0, rows: 0, device: 0, disk: 0, origin: 0, damaged: 0 }

  constructor(
    id: string,
    simulation: Simulation,
    model: DeviceModel,
    capacity: WorkerCapacity,
    surroundings: WorkerSurroundings,
  ) {
    this.id = id
    this.#simulation = simulation
    this.#model = model
    this.capacity = capacity
    this.#surroundings = surroundings
    this.#tiers = this.#makeTiers(new Map())
  }

  get isAlive(): boolean {
    return this.#isAlive
  }

  /** Runs and waiting requests. */
  get requests(): number {
    return this.#waiting.length + this.#running.length
  }

  /** The distinct adapters of its requests. */
  adaptersOf(which: 'running' | 'waiting'): ReadonlySet<string> {
    return new Set((which === 'running' ? this.#running : this.#waiting).flatMap(({ request }) => request.adapter ?? []))
  }

  /** Those of its last start. */
  get tiers(): SimulatedTiers {
    return this.#tiers
  }

  /** @returns a way to leave */
  submit(request: SimulatedRequest, listener: RunListener): () => void {
    assert(this.#isAlive, 'nobody talks to a dead worker')
    const run: Run = {
      request,
      listener,
      sequence: this.#sequences as SequenceId,
      ...partyOf(request),
      arrivedAtMs: this.#simulation.nowMs(),
      deadlineAtMs: this.#simulation.nowMs() + request.deadlineMs,
      tokens: new Array<number>(request.promptTokens).fill(0),
      computed: 0,
      fate: 'live',
      adapter: undefined,
    }
    this.#sequences += 1
    this.counts.requests += 1
    this.#waiting.push(run)
    this.#ledger.enqueue(run.client, run.flow, run.arrivedAtMs)
    const stepThen = this.#unlessRestarted(() => this.#step())
    this.#simulation.after(request.deadlineMs, stepThen)
    if (request.adapter !== undefined) {
      if (this.#tiers.isInDevice(request.adapter)) this.counts.hits += 1
      run.adapter = this.#tiers.want(request.adapter, request.bytes, () => {
        if (run.fate === 'live') run.fate = 'failed'
      })
    }
    listener.accepted()
    this.#step()
    this.#report()
    return this.#unlessRestarted(() => {
      if (run.fate === 'live') run.fate = 'cancelled'
      this.#step()
    })
  }

  /** The process is killed: connections break, memory is gone, the disk stays. */
  kill(): void {
    const runs = [...this.#running, ...this.#waiting]
    this.#isAlive = false
    this.#start += 1
    this.#running = []
    this.#waiting = []
    for (const { listener } of runs) listener.ended('lost')
  }

  restart(): void {
    assert(!this.#isAlive, 'only a dead worker is started again')
    this.#isAlive = true
    this.#isStepping = false
    this.#meter = new LoadMeter()
    this.#ledger = new ServiceLedger()
    this.#tiers = this.#makeTiers(this.#tiers.disk)
    this.#events = 0
    this.#surroundings.send(this.snapshot())
  }

  /** Nothing of it runs for a while, as after SIGSTOP; what comes meanwhile is done afterwards. */
  stall(forMs: number): void {
    this.#resumesAtMs = Math.max(this.#resumesAtMs, this.#simulation.nowMs() + forMs)
  }

  /** Steps take so many times as long from now on. */
  slowDown(factor: number): void {
    this.#slowness = factor
  }

  /** What a stream of events begins with. */
  snapshot(): WorkerEvent {
    return { type: 'snapshot', ...this.#stamp(), load: this.load(), adapters: this.#tiers.adapters() }
  }

  /** Every lease is back and nothing is on its way. */
  assertIdle(): void {
    assert.equal(this.requests, 0)
    this.#tiers.assertIdle()
  }

  load(): WorkerLoad {
    const tokensLeft = ({ request, computed }: Run) => Math.max(0, request.promptTokens - computed)
    return {
      state: 'ready',
      running: this.#running.length,
      waiting: this.#waiting.length,
      queuedTokens: [...this.#running, ...this.#waiting].reduce((tokens, run) => tokens + tokensLeft(run), 0),
      tokensPerSecond: this.#meter.tokensPerSecond,
      turnoverMs: this.#meter.turnoverMs,
      ...this.#tiers.load(),
    }
  }

  #makeTiers(disk: Map<AdapterDigest, Content>): SimulatedTiers {
    const start = this.#start
    return new SimulatedTiers(
      {
        contents: this.#surroundings.contents,
        fetched: this.#surroundings.fetched,
        model: this.#model,
        slots: this.capacity.slots,
        ramBytes: this.capacity.ramBytes,
        disk,
        counts: this.counts,
      },
      {
        clock: this.#simulation,
        after: (delayMs, action) => this.#after(delayMs, start, action),
        onChange: (digest, presence) => this.#tell(digest, presence),
        onArrival: () => {
          this.#step()
          this.#report()
        },
      },
    )
  }

  #step(): void {
    if (this.#isStepping) return
    const plan = planStep(this.#view(), this.capacity)
    this.#begin(plan)
    if (plan.kind === 'idle') return
    this.#isStepping = true
    this.#hasReported = false
    const promptRows = plan.work.reduce((rows, { phase, rowCount }) => rows + (phase === 'prefill' ? rowCount : 0), 0)
    const { stepMs, decodeRowMs, promptTokenMs } = this.#model
    const tookMs = (stepMs + (plan.rows.length - promptRows) * decodeRowMs + promptRows * promptTokenMs) * this.#slowness
    this.counts.steps += 1
    this.counts.rows += plan.rows.length
    this.#after(tookMs, this.#start, () => {
      this.#isStepping = false
      this.#meter.step(promptRows, tookMs)
      this.#times.record({ answers: plan.rows.length - promptRows, prompts: promptRows }, tookMs)
      this.#apply(plan)
      this.#step()
      this.#report()
    })
  }

  #begin({ finishes, loads, admissions }: StepPlan): void {
    for (const finish of finishes) this.#finish(finish)
    for (const { digest, slot } of loads) this.#tiers.copy(digest, slot)
    for (const admission of admissions) this.#admit(admission)
  }

  #finish({ sequence, cause }: PlannedFinish): void {
    const run = [...this.#running, ...this.#waiting].find((one) => one.sequence === sequence)
    assert(run !== undefined, 'who is ended was there')
    this.#running = this.#running.filter((one) => one !== run)
    const waited = this.#waiting.length
    this.#waiting = this.#waiting.filter((one) => one !== run)
    this.#ledger.leave(run.client, run.flow, this.#waiting.length < waited ? 'waiting' : 'running')
    run.adapter?.release()
    run.listener.ended(cause === 'late' ? 'expired' : cause)
  }

  #admit(admission: Admission): void {
    const index = this.#waiting.findIndex(({ sequence }) => sequence === admission.sequence)
    const [run] = this.#waiting.splice(index, 1)
    assert(run !== undefined && index >= 0, 'who is admitted was waiting')
    if (admission.kind === 'adapter') run.adapter?.lease(admission.slot, admission.digest)
    this.#ledger.admit(run.client, run.flow)
    this.#running.push(run)
  }

  #apply({ work, charges }: RunPlan): void {
    this.#ledger.charge(charges, this.#simulation.nowMs())
    const rows = new Map(work.map((part) => [part.sequence, part]))
    const ended = this.#running.filter((run) => {
      const part = rows.get(run.sequence)
      if (part === undefined) return false
      run.computed += part.rowCount
      if (run.computed < run.tokens.length) return false
      run.listener.token(this.#tiers.weightsIn(part.slot))
      run.tokens.push(0)
      return run.tokens.length === run.request.promptTokens + run.request.newTokens
    })
    for (const run of ended) {
      this.#running.splice(this.#running.indexOf(run), 1)
      this.#ledger.leave(run.client, run.flow, 'running')
      run.adapter?.release()
      run.listener.ended('done')
    }
    this.#meter.ended(ended.length, this.#simulation.nowMs(), this.#waiting.length > 0)
  }

  #view(): StepView {
    const nowMs = this.#simulation.nowMs()
    const [running, waiting] = [this.#running.map(runningView), this.#waiting.map(waitingView)]
    const pace = this.#times.pace()
    return { nowMs, running, waiting, slots: this.#tiers.slots(), tenants: this.#ledger.view(nowMs), ...(pace && { pace }) }
  }

  #tell(digest: AdapterDigest, presence: HeldPresence | 'absent'): void {
    this.#events += 1
    this.#surroundings.send({ type: 'delta', ...this.#stamp(), adapters: [{ digest, presence }] })
  }

  /** At most once a step: while one runs, its end will report. */
  #report(): void {
    if (this.#isStepping && this.#hasReported) return
    this.#hasReported = true
    this.#events += 1
    this.#surroundings.send({ type: 'delta', ...this.#stamp(), load: this.load() })
  }

  #stamp() {
    return { epoch: `${this.id}.${this.#start}`, sequence: this.#events }
  }

  /** Happens unless the worker is killed before; while it is stalled, when it resumes. */
  #after(delayMs: number, start: number, action: () => void | Promise<void>): void {
    const happen = (): void | Promise<void> => {
      if (start !== this.#start) return undefined
      const stalledMs = this.#resumesAtMs - this.#simulation.nowMs()
      if (stalledMs <= 0) return action()
      this.#simulation.after(stalledMs, happen)
      return undefined
    }
    this.#simulation.after(delayMs, happen)
  }

  #unlessRestarted(action: () => void): () => void {
    const start = this.#start
    return () => {
      if (start === this.#start) action()
    }
  }
}
