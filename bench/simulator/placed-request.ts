/** A request's life in a simulated gateway: placed, lost perhaps, placed again, and ended exactly once. */
import type { AdapterDigest } from '@quiver/protocol'
import type { SimulatedGateway } from './simulated-gateway.ts'
import type { RunEnd, SimulatedRequest } from './simulated-run.ts'
import type { Simulation } from './simulation.ts'

/** Sends of one request: the first, and one more where nothing was answered yet. */
const ATTEMPTS = 2

export type AnswerEnd = 'done' | 'failed' | 'expired' | 'left'

/** What the client gets. */
export interface Answer {
  token(weights: AdapterDigest | undefined): void
  /** Once, and last. */
  ended(end: AnswerEnd): void
}

export class PlacedRequest {
  readonly #request: SimulatedRequest
  readonly #answer: Answer
  readonly #gateway: SimulatedGateway
  readonly #simulation: Simulation
  readonly #deadlineAtMs: number
  #attemptsLeft = ATTEMPTS
  #hasToken = false
  #isOver = false
  #leave = () => {}

  constructor(request: SimulatedRequest, answer: Answer, gateway: SimulatedGateway, simulation: Simulation) {
    this.#request = request
    this.#answer = answer
    this.#gateway = gateway
    this.#simulation = simulation
    this.#deadlineAtMs = simulation.nowMs() + request.deadlineMs
    simulation.after(request.deadlineMs, () => this.end('expired'))
    this.#attempt()
  }

  end(end: AnswerEnd): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#answer.ended(end)
    const leave = this.#leave
    this.#gateway.later(leave)
  }

  #attempt(): void {
    this.#attemptsLeft -= 1
    const placed = this.#gateway.place(this.#request)
    if (placed === undefined) {
      this.end('failed')
      return
    }
    const { member, dispatch } = placed
    const request = { ...this.#request, deadlineMs: this.#deadlineAtMs - this.#simulation.nowMs() }
    this.#gateway.deliver(
      member,
      request,
      {
        accepted: () => dispatch.accepted(),
        token: (weights) => this.#token(weights),
        ended: (end) => {
          dispatch.ended()
          if (end === 'lost') this.#gateway.lose(member)
          this.#runEnded(end)
        },
      },
      (leave) => {
        this.#leave = leave
        if (this.#isOver) this.#gateway.later(leave)
      },
    )
  }

  #token(weights: AdapterDigest | undefined): void {
    if (this.#isOver) return
    this.#hasToken = true
    this.#answer.token(weights)
  }

  #runEnded(end: RunEnd): void {
    if (end === 'lost' && !this.#isOver && !this.#hasToken && this.#attemptsLeft > 0) this.#attempt()
    else this.end(end === 'done' || end === 'expired' ? end : 'failed')
  }
}
