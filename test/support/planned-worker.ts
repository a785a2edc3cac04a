/** The planner and its ledger alone, with sequences, slots and loads as plain numbers: thousands of steps in a second. */
import type { SlotView } from '@quiver/cache'
import type { Priority, SequenceId } from '@quiver/protocol'
import { planStep } from '../../packages/worker/src/step/plan-step.ts'
import { flowOf, type SequenceClient, ServiceLedger } from '../../packages/worker/src/step/service-ledger.ts'
import type { RunningView, StepLimits, StepPlan, WaitingView } from '../../packages/worker/src/step/step-plan.ts'
import { digestOf, free, running, waiting } from './step-views.ts'

export interface PlannedRequest {
  readonly tenant?: string
  readonly weight?: number
  readonly priority?: Priority
  /** Absent: the base model. */
  readonly adapter?: string
  readonly prompt: number
  readonly answer: number
  readonly deadlineMs?: number
}

export interface PlannedSequence extends PlannedRequest {
  readonly id: number
  readonly client: SequenceClient
  readonly arrivedAtStep: number
  /** Of its tenant and for its adapter, that came before it and had not ended. */
  readonly aheadInFlow: number
  /** Virtual tokens that the worker had served when it came, and when it was admitted. */
  readonly servedAtArrival: number
  servedAtAdmission: number
  admittedAtStep: number | undefined
  endedAtStep: number | undefined
  computed: number
  left: number
  slot: number
  generation: number
}

export interface PlannedWorkerOptions {
  readonly limits: StepLimits
  readonly slots?: number
  readonly loadSteps?: number
  readonly stepMs?: number
  /** Told of every plan, with who waited and ran before it. */
  readonly onPlan?: (
    plan: StepPlan,
    before: { readonly running: readonly PlannedSequence[]; readonly waiting: readonly PlannedSequence[] },
  ) => void
}

export class PlannedWorker {
  readonly ledger = new ServiceLedger()
  readonly #options: PlannedWorkerOptions
  #slots: SlotView[]
  #waiting: PlannedSequence[] = []
  #running: PlannedSequence[] = []
  readonly ended: PlannedSequence[] = []
  readonly #loads: { readonly slot: number; readonly doneAt: number }[] = []
  #step = 0
  #nextId = 1
  loadCount = 0
  /** Virtual tokens, to everybody. */
  served = 0

  constructor(options: PlannedWorkerOptions) {
    this.#options = options
    this.#slots = Array.from({ length: options.slots ?? 0 }, (_, slot) => free(slot))
  }

  get stepCount(): number {
    return this.#step
  }
  get waiting(): readonly PlannedSequence[] {
    return this.#waiting
  }
  get running(): readonly PlannedSequence[] {
    return this.#running
  }

  requestsOf(tenant: string): number {
    return [...this.#waiting, ...this.#running].filter(({ client }) => client.tenant === tenant).length
  }

  arrive(request: PlannedRequest): PlannedSequence {
    const { tenant = 'tests', weight = 1, priority = 'normal', answer } = request
    const sequence: PlannedSequence = {
      ...request,
      id: this.#nextId,
      client: { tenant, weight, priority },
      arrivedAtStep: this.#step,
      aheadInFlow: [...this.#waiting, ...this.#running].filter(
        ({ client, adapter }) => client.tenant === tenant && adapter === request.adapter,
      ).length,
      servedAtArrival: this.served,
      servedAtAdmission: Number.POSITIVE_INFINITY,
      admittedAtStep: undefined,
      endedAtStep: undefined,
      computed: 0,
      left: answer,
      slot: -1,
      generation: 0,
    }
    this.#nextId += 1
    this.#waiting.push(sequence)
    this.ledger.enqueue(sequence.client, flowOfPlanned(sequence), this.#nowMs())
    return sequence
  }

  step(): StepPlan {
    this.#step += 1
    this.#finishLoads()
    const nowMs = this.#nowMs()
    const before = { running: [...this.#running], waiting: [...this.#waiting] }
    const plan = planStep(
      {
        nowMs,
        running: this.#running.map((sequence) => this.#runningView(sequence)),
        waiting: this.#waiting.map((sequence) => this.#waitingView(sequence)),
        slots: this.#views(),
        tenants: this.ledger.view(nowMs),
      },
      this.#options.limits,
    )
    this.#options.onPlan?.(plan, before)
    for (const { sequence: id } of plan.finishes) this.#leave(id)
    for (const { slot, digest, generation } of plan.loads) {
      this.loadCount += 1
      this.#slots[slot] = { state: 'loading', slot, digest, generation: generation + 1 }
      this.#loads.push({ slot, doneAt: this.#step + (this.#options.loadSteps ?? 1) })
    }
    for (const admission of plan.admissions) {
      const sequence = this.#find(this.#waiting, admission.sequence)
      this.#waiting.splice(this.#waiting.indexOf(sequence), 1)
      this.#running.push(sequence)
      sequence.admittedAtStep = this.#step
      sequence.servedAtAdmission = this.served
      this.ledger.admit(sequence.client, flowOfPlanned(sequence))
      if (admission.kind === 'adapter') Object.assign(sequence, { slot: admission.slot, generation: admission.generation })
    }
    if (plan.kind === 'run') this.#apply(plan)
    return plan
  }

  #apply({ work, charges }: Extract<StepPlan, { kind: 'run' }>): void {
    this.ledger.charge(charges, this.#nowMs())
    for (const { tokens } of charges) this.served += tokens
    for (const { sequence: id, rowCount } of work) {
      const sequence = this.#find(this.#running, id)
      sequence.computed += rowCount
      if (sequence.computed >= sequence.prompt) sequence.left -= 1
      if (sequence.left === 0) this.#leave(id)
    }
  }

  #leave(id: SequenceId): void {
    const was = this.#running.some((sequence) => sequence.id === id) ? 'running' : 'waiting'
    const list = was === 'running' ? this.#running : this.#waiting
    const sequence = this.#find(list, id)
    list.splice(list.indexOf(sequence), 1)
    sequence.endedAtStep = this.#step
    this.ledger.leave(sequence.client, flowOfPlanned(sequence), was)
    this.ended.push(sequence)
  }

  #find(list: readonly PlannedSequence[], id: SequenceId): PlannedSequence {
    const found = list.find((sequence) => sequence.id === id)
    if (found === undefined) throw new Error(`the plan names sequence ${id}, which is not there`)
    return found
  }

  #finishLoads(): void {
    for (const { slot, doneAt } of this.#loads) {
      const content = this.#slots[slot]
      if (doneAt !== this.#step || content?.state !== 'loading') continue
      this.#slots[slot] = { ...content, state: 'resident', leaseCount: 0, lastUsedMs: this.#step, keepScore: this.#step }
    }
  }

  #views(): SlotView[] {
    return this.#slots.map((slot) =>
      slot.state === 'resident'
        ? { ...slot, leaseCount: this.#running.filter((sequence) => sequence.slot === slot.slot).length }
        : slot,
    )
  }

  #nowMs(): number {
    return this.#step * this.#stepMs()
  }

  #stepMs(): number {
    return this.#options.stepMs ?? 20
  }

  #waitingView(sequence: PlannedSequence): WaitingView {
    const { id, adapter, prompt, client } = sequence
    return waiting(id, {
      prompt,
      client,
      ...(adapter === undefined ? {} : { adapter }),
      arrivedAtMs: sequence.arrivedAtStep * this.#stepMs(),
      deadlineAtMs: this.#deadlineOf(sequence),
    })
  }

  #runningView(sequence: PlannedSequence): RunningView {
    const { id, adapter, prompt, client, computed, slot, generation } = sequence
    const generated = Math.max(0, computed - prompt + 1)
    const common = { prompt, client, computed, generated, deadlineAtMs: this.#deadlineOf(sequence) }
    return running(id, adapter === undefined ? common : { ...common, adapter, slot, generation })
  }

  #deadlineOf({ arrivedAtStep, deadlineMs = 1e9 }: PlannedSequence): number {
    return arrivedAtStep * this.#stepMs() + deadlineMs
  }
}

function flowOfPlanned({ adapter }: PlannedSequence): string {
  return flowOf(adapter === undefined ? { kind: 'base' } : { kind: 'adapter', digest: digestOf(adapter) })
}
