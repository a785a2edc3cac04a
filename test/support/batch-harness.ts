import type { RunEvent, RunRequest } from '@quiver/protocol'
import { BatchLoop } from '../../packages/worker/src/batch-loop.ts'
import type { EngineStep } from '../../packages/worker/src/engine/engine.ts'
import { PrefixCache } from '../../packages/worker/src/prefix/prefix-cache.ts'
import { RunService, type RunServiceDeps } from '../../packages/worker/src/run-service.ts'
import type { Sampler } from '../../packages/worker/src/sampling/sampler.ts'
import type { StopSequences } from '../../packages/worker/src/sampling/stop-sequences.ts'
import type { Speculation } from '../../packages/worker/src/step/speculation.ts'
import { FakeAdapterCache } from './fake-adapter-cache.ts'
import { FakeEngine, type FakeEngineOptions } from './fake-engine.ts'
import { fakeTokenizer } from './fake-tokenizer.ts'
import { ManualClock } from './manual-clock.ts'

export interface HarnessOptions extends FakeEngineOptions {
  readonly waitingLimit?: number
  readonly tenantLimits?: RunServiceDeps['tenantLimits']
  readonly inputTokens?: number
  /** How long a request waits for its adapter. */
  readonly arrivalMs?: number
  readonly openConstraint?: RunServiceDeps['openConstraint']
  readonly renderTemplate?: RunServiceDeps['renderTemplate']
  readonly onChange?: () => void
  /** Memory of the prefix cache; absent: there is none. */
  readonly prefixBytes?: number
  /** Absent: nothing is guessed, and prompts are not cut to keep the pace. */
  readonly speculation?: Speculation
  readonly keepsPace?: boolean
  /** What the clock says that a step takes; absent: no time at all. */
  readonly stepMs?: (step: EngineStep) => number
  /** Absent: the most likely token, whatever the request says. */
  readonly createSampler?: RunServiceDeps['createSampler']
  /** Makes the text of every token longer. */
  readonly pad?: string
}

/** A run as its client sees it. */
export interface HarnessRun {
  readonly events: readonly RunEvent[]
  /** The terminal event. */
  readonly end: Promise<Extract<RunEvent, { type: 'done' | 'error' }>>
  readonly tokens: readonly number[]
  cancel(): void
}

/** Batch loop and run service over the fake engine, cache and clock: a worker without HTTP. */
export class BatchHarness {
  readonly clock = new ManualClock()
  readonly engine: FakeEngine
  readonly cache: FakeAdapterCache
  readonly loop: BatchLoop
  readonly service: RunService
  readonly fatal: unknown[] = []
  readonly log: string[] = []
  #nextId = 1

  constructor(options: HarnessOptions = {}) {
    const {
      waitingLimit = 1024,
      tenantLimits = { requests: 512, tokens: 524_288 },
      arrivalMs = 60_000,
      inputTokens,
      pad,
      prefixBytes,
      openConstraint,
      renderTemplate,
      onChange,
      speculation = 0,
      keepsPace = false,
      stepMs,
      createSampler = () => greedy(),
      ...engineOptions
    } = options
    this.engine = new FakeEngine({
      ...engineOptions,
      ...(stepMs && { onStep: (step) => this.clock.advance(stepMs(step)) }),
    })
    this.cache = new FakeAdapterCache({ memory: this.engine, clock: this.clock })
    const tokenizer = fakeTokenizer(pad === undefined ? {} : { pad })
    const common = { cache: this.cache, tokenizer, clock: this.clock, timers: this.clock }
    const prefix =
      prefixBytes === undefined
        ? undefined
        : new PrefixCache({
            memory: this.engine,
            budgetBytes: prefixBytes,
            // Eight blocks, so that longer prompts take several turns.
            sliceBytes: 8 * 16 * this.engine.tokenBytes,
            base: 'fake-model',
            fatal: (error) => this.fatal.push(error),
          })
    this.loop = new BatchLoop({
      ...common,
      prefix,
      engine: this.engine,
      speculation,
      keepsPace,
      ...(onChange === undefined ? {} : { onChange }),
      log: (_level, message) => this.log.push(message),
      fatal: (error) => this.fatal.push(error),
    })
    const { totalTokens } = this.engine.capacity
    this.service = new RunService({
      ...common,
      prefix,
      loop: this.loop,
      createSampler,
      createStops: (stops) => endsWith(stops),
      openConstraint: openConstraint ?? (() => Promise.reject(new Error('this harness has no grammars'))),
      renderTemplate: renderTemplate ?? (() => Promise.reject(new Error('this harness has no templates'))),
      scores: new Float32Array(this.engine.model.vocabSize),
      vocabSize: this.engine.model.vocabSize,
      inputTokens: inputTokens ?? totalTokens - 1,
      totalTokens,
      waitingLimit,
      tenantLimits,
      arrivalMs,
    })
  }

  run(parts: RunParts & { readonly on?: string } = {}): HarnessRun {
    const { on, ...rest } = parts
    return startRun(
      this.service,
      runRequest({
        requestId: `run-${this.#nextId++}`,
        ...(on === undefined ? {} : { adapter: registered(on) }),
        ...rest,
      }),
    )
  }

  /** Turns of the event loop, for what goes on beside the steps. */
  async turns(count = 10): Promise<void> {
    for (let turn = 0; turn < count; turn++) await new Promise(setImmediate)
  }
}

export function registered(name: string): RunRequest['adapter'] {
  return { kind: 'registered', name, digest: '0'.repeat(64) }
}

/** `inputs` stands for a prompt that is a text. */
export type RunParts = Partial<RunRequest> & { readonly inputs?: string }

export function runRequest({ inputs = 'hello', ...parts }: RunParts = {}): RunRequest {
  return {
    requestId: 'run',
    tenant: 'tests',
    adapter: { kind: 'base' },
    prompt: { kind: 'text', text: inputs },
    sampling: { sample: false },
    maxNewTokens: 5,
    stop: [],
    ignoreEos: true,
    prefillDetails: false,
    alternatives: 0,
    deadlineMs: 60_000,
    ...parts,
  }
}

export function greedy(): Sampler {
  return {
    seed: undefined,
    choose: ({ topIds, topLogprobs }) => ({ id: topIds[0] ?? -1, logprob: topLogprobs[0] ?? Number.NaN }),
    accept: () => {},
  }
}

export function endsWith(stops: readonly string[]): StopSequences {
  let text = ''
  return {
    push(more) {
      text += more
      return stops.some((stop) => text.endsWith(stop))
    },
  }
}

/** Starts a run and gathers what it says. */
export function startRun(service: RunService, request: RunRequest): HarnessRun {
  const events: RunEvent[] = []
  const client = new AbortController()
  const end = Promise.withResolvers<Extract<RunEvent, { type: 'done' | 'error' }>>()
  const send = (event: RunEvent) => {
    events.push(event)
    if (event.type === 'done' || event.type === 'error') end.resolve(event)
  }
  service.start(request, { send }, client.signal)
  return {
    events,
    end: end.promise,
    get tokens() {
      return events.flatMap((event) => (event.type === 'token' ? [event.id] : []))
    },
    cancel: () => client.abort(),
  }
}
