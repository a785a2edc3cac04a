import type { SequenceId } from '@quiver/protocol'
import { describe, expect, it } from 'vitest'
import { twoCores } from '../../../bench/simulator/device-model.ts'
import { planStep } from '../../../packages/worker/src/step/plan-step.ts'
import type { RunningView, WaitingView } from '../../../packages/worker/src/step/step-plan.ts'
import { StepTimes } from '../../../packages/worker/src/step/step-times.ts'
import { randomFrom, randomSeed } from '../../support/random-seed.ts'
import { running, view, waiting } from '../../support/step-views.ts'

const seed = randomSeed('pace')
const limits = { sequences: 32, chunkTokens: 256 }
const longPrompt = 600

interface Stream {
  readonly id: number
  readonly prompt: number
  readonly arrivedAtMs: number
  computed: number
  lastTokenAtMs: number
}

/** Streams that never end, and long prompts that come, are computed and leave with their first token. */
class PacedWorker {
  readonly gaps: number[] = []
  readonly firstTokens: number[] = []
  readonly #times = new StepTimes()
  readonly #random = randomFrom(seed)
  readonly #keepsPace: boolean
  #running: Stream[] = []
  #waiting: Stream[] = []
  #nowMs = 0
  #nextId = 1

  constructor(keepsPace: boolean) {
    this.#keepsPace = keepsPace
  }

  arrive(prompt: number): void {
    const id = this.#nextId++
    this.#waiting.push({ id, prompt, arrivedAtMs: this.#nowMs, computed: 0, lastTokenAtMs: 0 })
  }

  /** @param prompts per second, of `longPrompt` tokens */
  play(steps: number, prompts: number): void {
    for (let step = 0, nextMs = this.#nowMs; step < steps; step++) {
      for (; nextMs <= this.#nowMs; nextMs += 1000 / prompts) this.arrive(longPrompt)
      this.#step()
    }
  }

  #step(): void {
    const pace = this.#times.pace()
    const input = view({
      running: this.#running.map(runningOf),
      waiting: this.#waiting.map(({ id, prompt }): WaitingView => waiting(id, { prompt })),
      ...(pace && { pace }),
    })
    const plan = planStep(input, { ...limits, keepsPace: this.#keepsPace })
    if (plan.kind === 'idle') return
    const admitted = new Set<SequenceId>(plan.admissions.map(({ sequence }) => sequence))
    this.#running.push(...this.#waiting.filter(({ id }) => admitted.has(id as SequenceId)))
    this.#waiting = this.#waiting.filter(({ id }) => !admitted.has(id as SequenceId))
    const prompts = plan.work.reduce((rows, { phase, rowCount }) => rows + (phase === 'prefill' ? rowCount : 0), 0)
    const answers = plan.rows.length - prompts
    const { stepMs, decodeRowMs, promptTokenMs } = twoCores
    // Steps are never twice alike, and now and then something else wants the processor.
    const noise = 0.95 + 0.1 * this.#random() + (this.#random() < 0.005 ? 2 : 0)
    const ms = (stepMs + answers * decodeRowMs + prompts * promptTokenMs) * noise
    this.#nowMs += ms
    this.#times.record({ answers, prompts }, ms)
    for (const { sequence, rowCount } of plan.work) this.#computed(sequence, rowCount)
  }

  #computed(sequence: SequenceId, rows: number): void {
    const stream = this.#running.find(({ id }) => id === sequence)
    if (stream === undefined) throw new Error(`nobody is ${sequence}`)
    stream.computed += rows
    if (stream.computed < stream.prompt) return
    if (stream.computed > stream.prompt) this.gaps.push(this.#nowMs - stream.lastTokenAtMs)
    stream.lastTokenAtMs = this.#nowMs
    if (stream.prompt < longPrompt) return
    this.firstTokens.push(this.#nowMs - stream.arrivedAtMs)
    this.#running.splice(this.#running.indexOf(stream), 1)
  }
}

function runningOf({ id, prompt, computed }: Stream): RunningView {
  // However much was generated, the newest token is what is computed next.
  return running(id, computed < prompt ? { prompt, computed, generated: 0 } : { prompt, computed: prompt, generated: 1 })
}

function share(values: readonly number[], of: number): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length * of)] ?? Number.NaN
}

function played(keepsPace: boolean, streams: number, prompts: number) {
  const worker = new PacedWorker(keepsPace)
  for (let stream = 0; stream < streams; stream++) worker.arrive(4)
  worker.play(100, 0.001)
  worker.gaps.length = 0
  worker.play(1_500, prompts)
  const { gaps, firstTokens } = worker
  return { ratio: share(gaps, 0.99) / share(gaps, 0.5), medianMs: share(gaps, 0.5), firstTokens }
}

describe('streams beside long prompts', () => {
  it.each([
    [1, 0.2],
    [8, 0.2],
    [8, 0.8],
    [16, 0.3],
    [16, 1],
    [30, 0.4],
  ])(
    `keep the 99th percentile of their gaps within twice the median: %i streams, %d prompts of 600 tokens a second (SEED=${seed})`,
    (streams, prompts) => {
      const paced = played(true, streams, prompts)
      expect(paced.ratio).toBeLessThanOrEqual(2)
      // Every prompt is served, within seconds: it gets rows in every step.
      expect(paced.firstTokens.length).toBeGreaterThan(2)
      expect(Math.max(...paced.firstTokens)).toBeLessThan(6_000)
    },
  )

  it('would lose it with whole chunks', () => {
    expect(played(false, 16, 0.3).ratio).toBeGreaterThan(4)
  })

  it('get company at once from a crowd that comes while few decode', () => {
    const worker = new PacedWorker(true)
    worker.arrive(4)
    worker.play(50, 0.001)
    worker.firstTokens.length = 0
    for (let prompt = 0; prompt < 15; prompt++) worker.arrive(longPrompt)
    worker.play(400, 0.001)
    // 15 prompts of 600 tokens take 4.5 s on an idle machine of this speed.
    expect(worker.firstTokens.length).toBeGreaterThanOrEqual(15)
    expect(Math.max(...worker.firstTokens)).toBeLessThan(6_500)
  })

  it('leave prompts whole chunks where nobody decodes', () => {
    const { firstTokens } = played(true, 0, 0.5)
    expect(Math.max(...firstTokens)).toBeLessThan(1_000)
  })
})
