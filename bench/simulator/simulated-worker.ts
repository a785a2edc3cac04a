/** A worker whose device is a model of time: its plans are made by the real planner, its adapters kept by the real tiers. */
import type { AdapterDigest, SequenceId, SlotIndex, WorkerLoad } from '@quiver/protocol'
import type { PackedAdapter, SlotLease } from '../../packages/cache/src/index.ts'
import { EvictionPolicy } from '../../packages/cache/src/policy/eviction-policy.ts'
import { DeviceSlots } from '../../packages/cache/src/tiers/device-tier.ts'
import { RamTier } from '../../packages/cache/src/tiers/ram-tier.ts'
import { LoadMeter } from '../../packages/worker/src/load-meter.ts'
import { planStep } from '../../packages/worker/src/step/plan-step.ts'
import type { Admission, RunningView, RunPlan, StepPlan, WaitingView } from '../../packages/worker/src/step/step-plan.ts'
import { type DeviceModel, loadMs } from './device-model.ts'
import type { Simulation } from './simulation.ts'

export interface SimulatedRequest {
  readonly id: number
  /** Absent for the base model. */
  readonly adapter?: AdapterDigest
  readonly bytes: number
  readonly promptTokens: number
  readonly newTokens: number
}

export interface RunListener {
  accepted(): void
  firstToken(): void
  done(): void
}

export interface WorkerCapacity {
  readonly sequences: number
  readonly slots: number
  readonly chunkTokens: number
  readonly ramBytes: number
}

/** What the worker tells those who listen; sent when it happens, delivered when the network has. */
export interface Reports {
  load(load: WorkerLoad): void
  adapter(digest: AdapterDigest, presence: 'device' | 'arriving' | 'ram' | 'disk'): void
}

interface Sequence {
  readonly request: SimulatedRequest
  readonly listener: RunListener
  readonly sequence: SequenceId
  readonly tokens: number[]
  computed: number
  /** The adapter is held in RAM. */
  isReady: boolean
  slot: SlotLease | undefined
}

const NEVER = Number.POSITIVE_INFINITY

export class SimulatedWorker {
  readonly id: string
  readonly #simulation: Simulation
  readonly #model: DeviceModel
  readonly #capacity: WorkerCapacity
  readonly #reports: Reports
  readonly #policy: EvictionPolicy
  readonly #device: DeviceSlots
  readonly #ram: RamTier
  readonly #disk = new Set<AdapterDigest>()
  readonly #meter = new LoadMeter()
  /** Adapters on their way into RAM, with the sequences that wait for them. */
  readonly #flights = new Map<AdapterDigest, Sequence[]>()
  /** Ends of the copies into slots that are under way. */
  readonly #copies = new Map<SlotIndex, () => void>()
  #waiting: Sequence[] = []
  #running: Sequence[] = []
  #sequences = 0
  #isStepping = false
  /** Copies into slots, and loads from disk and origin, since the start. */
  readonly loads = { device: 0, disk: 0, origin: 0 }
  /** Requests whose adapter was in a slot when they came. */
  hits = 0
  /** Steps run and rows computed. */
  readonly work = { steps: 0, rows: 0 }

  constructor(id: string, simulation: Simulation, model: DeviceModel, capacity: WorkerCapacity, reports: Reports) {
    this.id = id
    this.#simulation = simulation
    this.#model = model
    this.#capacity = capacity
    this.#reports = reports
    this.#policy = new EvictionPolicy(simulation)
    const memory = {
      slots: capacity.slots,
      loadAdapter: (slot: SlotIndex) => new Promise<void>((resolve) => this.#copies.set(slot, resolve)),
      clearSlot: () => {},
    }
    this.#device = new DeviceSlots({
      memory,
      clock: simulation,
      scoreOf: (digest, bytes) => this.#policy.score({ digest, bytes, from: 'ram', space: 1 }),
      noteCopy: (bytes, tookMs) => this.#policy.noteReload('ram', bytes, tookMs),
    })
    this.#ram = new RamTier(capacity.ramBytes, ({ digest, bytes }) =>
      this.#policy.score({ digest, bytes, from: 'disk', space: bytes }),
    )
  }

  get requests(): number {
    return this.#waiting.length + this.#running.length
  }

  /** Requests that came since the start. */
  get submitted(): number {
    return this.#sequences
  }

  /** The distinct adapters of its requests. */
  adaptersOf(which: 'running' | 'waiting'): ReadonlySet<string> {
    const sequences = which === 'running' ? this.#running : this.#waiting
    return new Set(sequences.flatMap(({ request }) => request.adapter ?? []))
  }

  submit(request: SimulatedRequest, listener: RunListener): void {
    const sequence: Sequence = {
      request,
      listener,
      sequence: this.#sequences as SequenceId,
      tokens: new Array<number>(request.promptTokens).fill(0),
      computed: 0,
      isReady: true,
      slot: undefined,
    }
    this.#sequences += 1
    this.#waiting.push(sequence)
    if (request.adapter !== undefined) this.#want(sequence, request.adapter, request.bytes)
    listener.accepted()
    this.#step()
    this.#report()
  }

  #want(sequence: Sequence, digest: AdapterDigest, bytes: number): void {
    this.#policy.noteUse(digest)
    if (this.#device.slotOf(digest) !== undefined) this.hits += 1
    if (this.#ram.hold(digest) !== undefined) return
    sequence.isReady = false
    const others = this.#flights.get(digest)
    if (others !== undefined) {
      others.push(sequence)
      return
    }
    const from = this.#disk.has(digest) ? 'disk' : 'origin'
    this.loads[from] += 1
    this.#flights.set(digest, [sequence])
    this.#reports.adapter(digest, 'arriving')
    this.#simulation.after(loadMs(this.#model, from, bytes), () => this.#arrived(digest, bytes))
  }

  #arrived(digest: AdapterDigest, bytes: number): void {
    this.#disk.add(digest)
    const packed: PackedAdapter = { digest, dtype: 'f32', rank: 16, modules: [], bytes }
    for (const sequence of this.#flights.get(digest) ?? []) {
      this.#ram.holdNew(packed)
      sequence.isReady = true
    }
    this.#flights.delete(digest)
    this.#step()
    this.#report()
  }

  #step(): void {
    if (this.#isStepping) return
    const plan = planStep(this.#view(), { sequences: this.#capacity.sequences, chunkTokens: this.#capacity.chunkTokens })
    this.#begin(plan)
    if (plan.kind === 'idle') return
    this.#isStepping = true
    const promptRows = plan.work.reduce((rows, { phase, rowCount }) => rows + (phase === 'prefill' ? rowCount : 0), 0)
    const { stepMs, decodeRowMs, promptTokenMs } = this.#model
    const tookMs = stepMs + (plan.rows.length - promptRows) * decodeRowMs + promptRows * promptTokenMs
    this.work.steps += 1
    this.work.rows += plan.rows.length
    this.#simulation.after(tookMs, () => {
      this.#isStepping = false
      this.#meter.step(promptRows, tookMs)
      this.#apply(plan)
      this.#step()
      this.#report()
    })
  }

  #begin({ loads, admissions }: StepPlan): void {
    for (const { digest, slot } of loads) {
      const packed = this.#ram.peek(digest)?.packed
      if (packed === undefined) throw new Error('a load is planned for what is in RAM')
      const evicted = this.#device.snapshot()[slot]
      if (evicted?.state === 'resident') this.#reports.adapter(evicted.digest, this.#ram.peek(evicted.digest) ? 'ram' : 'disk')
      const copied = this.#device.load(slot, packed)
      this.loads.device += 1
      this.#reports.adapter(digest, 'arriving')
      this.#simulation.after(loadMs(this.#model, 'ram', packed.bytes), async () => {
        this.#copies.get(slot)?.()
        this.#copies.delete(slot)
        await copied
        this.#reports.adapter(digest, 'device')
        this.#step()
      })
    }
    for (const admission of admissions) this.#admit(admission)
  }

  #admit(admission: Admission): void {
    const index = this.#waiting.findIndex(({ sequence }) => sequence === admission.sequence)
    const [sequence] = this.#waiting.splice(index, 1)
    if (sequence === undefined) throw new Error('who is admitted was waiting')
    if (admission.kind === 'adapter') sequence.slot = this.#device.lease(admission.slot, admission.digest)
    this.#running.push(sequence)
  }

  #apply({ work }: RunPlan): void {
    const rows = new Map(work.map(({ sequence, rowCount }) => [sequence, rowCount]))
    let ended = 0
    for (const sequence of this.#running) {
      const { request, listener, tokens } = sequence
      sequence.computed += rows.get(sequence.sequence) ?? 0
      if (sequence.computed < tokens.length || !rows.has(sequence.sequence)) continue
      if (tokens.length === request.promptTokens) listener.firstToken()
      tokens.push(0)
      if (tokens.length < request.promptTokens + request.newTokens) continue
      ended += 1
      sequence.slot?.release()
      if (request.adapter !== undefined) this.#ram.drop(request.adapter)
      listener.done()
    }
    this.#running = this.#running.filter(({ request, tokens }) => tokens.length < request.promptTokens + request.newTokens)
    this.#meter.ended(ended, this.#simulation.nowMs(), this.#waiting.length > 0)
  }

  #view() {
    const common = ({ sequence, tokens, request }: Sequence) => ({
      sequence,
      deadlineAtMs: NEVER,
      arrivesByMs: NEVER,
      fate: 'live' as const,
      tokens,
      promptLength: request.promptTokens,
      top: 1,
      promptDetails: false,
      embeds: false,
    })
    const running = this.#running.map((sequence): RunningView => {
      const { slot, computed } = sequence
      return { ...common(sequence), computed, adapter: slot === undefined ? { kind: 'base' } : { kind: 'adapter', ...slot } }
    })
    const waiting = this.#waiting.map((sequence): WaitingView => {
      const { adapter } = sequence.request
      if (adapter === undefined) return { ...common(sequence), adapter: { kind: 'base' } }
      const state = sequence.isReady ? 'ready' : 'arriving'
      return { ...common(sequence), adapter: { kind: 'adapter', digest: adapter, state } }
    })
    return { nowMs: this.#simulation.nowMs(), running, waiting, slots: this.#device.snapshot() }
  }

  load(): WorkerLoad {
    const slots = this.#device.snapshot()
    const idle = slots.flatMap((slot) => (slot.state === 'resident' && slot.leaseCount === 0 ? [slot] : []))
    const least = idle.reduce<(typeof idle)[number] | undefined>(
      (found, slot) => (found === undefined || slot.keepScore < found.keepScore ? slot : found),
      undefined,
    )
    const freeSlots = slots.filter(({ state }) => state === 'free').length
    return {
      state: 'ready',
      running: this.#running.length,
      waiting: this.#waiting.length,
      queuedTokens: [...this.#running, ...this.#waiting].reduce(
        (tokens, { request, computed }) => tokens + Math.max(0, request.promptTokens - computed),
        0,
      ),
      tokensPerSecond: this.#meter.tokensPerSecond,
      turnoverMs: this.#meter.turnoverMs,
      freeSlots,
      hasSlotToGive: freeSlots > 0 || least !== undefined,
      victim: {
        requestsPerSecond: least === undefined ? 0 : this.#policy.requestsPerSecond(least.digest),
        reloadMs: this.#model.loads.ram.fixedMs,
      },
      reload: this.#model.loads,
    }
  }

  #report(): void {
    this.#reports.load(this.load())
  }
}
