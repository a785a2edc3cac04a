/** A gateway in a simulated world: places requests by its view of the workers, and retries what is lost before its first token. */
import type { WorkerEvent } from '@quiver/protocol'
import { type Dispatch, TrackedWorker } from '../../packages/gateway/src/placement/tracked-worker.ts'
import { type Answer, PlacedRequest } from './placed-request.ts'
import type { ChoiceView, Choose } from './policies.ts'
import type { RunListener, SimulatedRequest } from './simulated-run.ts'
import type { SimulatedWorker } from './simulated-worker.ts'
import type { Simulation } from './simulation.ts'

/** How soon a gateway tries again to hear from a worker that does not answer. */
const RECONNECT_MS = 200

export interface GatewayPlan {
  /** Between the gateway and a worker, one way. */
  readonly networkMs: number
  readonly choose: Choose
}

/** One worker as the gateway has it. */
export interface Member {
  readonly worker: SimulatedWorker
  /** Absent until it has been heard of. */
  view: ChoiceView | undefined
  tracked: TrackedWorker | undefined
  /** Its events are lost until then. */
  deafUntilMs: number
  isReconnecting: boolean
}

export class SimulatedGateway {
  readonly #simulation: Simulation
  readonly #plan: GatewayPlan
  readonly #members = new Map<SimulatedWorker, Member>()

  constructor(simulation: Simulation, plan: GatewayPlan) {
    this.#simulation = simulation
    this.#plan = plan
  }

  /** Begins to listen to a worker. */
  add(worker: SimulatedWorker): void {
    const member: Member = { worker, view: undefined, tracked: undefined, deafUntilMs: 0, isReconnecting: false }
    this.#members.set(worker, member)
    this.#take(member, worker.snapshot())
  }

  /** A worker sends an event. */
  hear(worker: SimulatedWorker, event: WorkerEvent): void {
    const member = this.#members.get(worker)
    if (member !== undefined && this.#simulation.nowMs() >= member.deafUntilMs) this.later(() => this.#take(member, event))
  }

  /** The stream of a worker's events breaks, and cannot be opened again for a while, though requests get through. */
  deafen(worker: SimulatedWorker, forMs: number): void {
    const member = this.#members.get(worker)
    if (member === undefined) return
    member.deafUntilMs = Math.max(member.deafUntilMs, this.#simulation.nowMs() + forMs)
    this.#reconnect(member)
  }

  /** Requests that a worker has, as far as is known here. */
  requestsAt(worker: SimulatedWorker): number {
    return this.#members.get(worker)?.tracked?.requests ?? 0
  }

  /** @returns a way for the client to leave */
  send(request: SimulatedRequest, answer: Answer): () => void {
    const placed = new PlacedRequest(request, answer, this, this.#simulation)
    return () => placed.end('left')
  }

  /** The worker that a request is to go to, with the dispatch counted. */
  place(request: SimulatedRequest): { readonly member: Member; readonly dispatch: Dispatch } | undefined {
    const members = [...this.#members.values()]
    const chosen = this.#plan.choose(
      request,
      members.flatMap(({ view }) => view ?? []),
    )
    const member = members.find(({ view }) => view !== undefined && view === chosen)
    return member?.tracked && { member, dispatch: member.tracked.dispatch(request) }
  }

  /** Sends a run; what the worker says comes back after as long. A dead worker refuses. */
  deliver(member: Member, request: SimulatedRequest, listener: RunListener, onLeave: (leave: () => void) => void): void {
    this.later(() => {
      const back: RunListener = {
        accepted: () => this.later(() => listener.accepted()),
        token: (weights) => this.later(() => listener.token(weights)),
        ended: (end) => this.later(() => listener.ended(end)),
      }
      if (member.worker.isAlive) onLeave(member.worker.submit(request, back))
      else back.ended('lost')
    })
  }

  /** A worker did not answer: nothing more is sent to it until it is heard of again. */
  lose(member: Member): void {
    if (member.tracked !== undefined) member.tracked.isHealthy = false
    this.#reconnect(member)
  }

  later(action: () => void): void {
    this.#simulation.after(this.#plan.networkMs, action)
  }

  #take(member: Member, event: WorkerEvent): void {
    if (member.tracked === undefined && event.type === 'snapshot') {
      member.tracked = new TrackedWorker(member.worker.id, member.worker.capacity.sequences, event)
      member.view = choiceView(member.tracked, member.worker)
    } else if (member.tracked?.apply(event) !== true) this.#reconnect(member)
    else if (event.type === 'snapshot') member.tracked.isHealthy = true
  }

  #reconnect(member: Member): void {
    if (member.isReconnecting) return
    member.isReconnecting = true
    const { worker } = member
    this.#simulation.after(RECONNECT_MS, () => {
      member.isReconnecting = false
      if (!worker.isAlive || this.#simulation.nowMs() < member.deafUntilMs) this.#reconnect(member)
      else this.#take(member, worker.snapshot())
    })
  }
}

/** What ours sees, and what others look at besides. Theirs is not delayed: they are compared at their best. */
function choiceView(tracked: TrackedWorker, worker: SimulatedWorker): ChoiceView {
  return Object.defineProperties(tracked, {
    waiting: { get: () => tracked.load.waiting },
    slots: { value: worker.capacity.slots },
    runningAdapters: { get: () => worker.adaptersOf('running') },
    waitingAdapters: { get: () => worker.adaptersOf('waiting') },
  }) as TrackedWorker & ChoiceView
}
