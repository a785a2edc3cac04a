import assert from 'node:assert/strict'
import type { PackedAdapter } from '@quiver/cache'
import { type AdapterDigest, BASE_SLOT, type SequenceId, type SlotIndex } from '@quiver/protocol'
import type {
  Capacity,
  Engine,
  EngineStep,
  PrefixMemory,
  RowOutput,
  StepResult,
} from '../../packages/worker/src/engine/engine.ts'
import type { ModelSpec } from '../../packages/worker/src/model/model-spec.ts'

/** Small enough to compute whole distributions at every step. */
export const fakeVocabSize = 64
export const fakeEosId = 0

export const fakeSpec: ModelSpec = {
  id: 'fake-model',
  family: 'llama',
  hiddenSize: 8,
  layerCount: 1,
  headCount: 2,
  kvHeadCount: 1,
  headDim: 4,
  intermediateSize: 16,
  vocabSize: fakeVocabSize,
  maxPositions: 4096,
  rmsNormEps: 1e-5,
  ropeTheta: 10_000,
  ropeScaling: { type: 'none' },
  tiedEmbeddings: true,
  qkvBias: false,
  outputBias: false,
  mlpBias: false,
  qkNorm: false,
  slidingWindow: 0,
  eosTokenIds: [fakeEosId],
}

export interface FakeEngineOptions extends Partial<Capacity> {
  /** The end-of-text token never comes out on top, so that lengths are what a test says. */
  readonly neverEnds?: boolean
  /** Only so many of the newest tokens decide what comes next, so that texts go round in circles; absent: all of them. */
  readonly memory?: number
  /** Called as a step begins. */
  readonly onStep?: (step: EngineStep) => void
  /** As of an engine that computes many rows of many sequences at once; absent: true. */
  readonly runsTogether?: boolean
}

interface Held {
  readonly tokens: number[]
  /** Undefined: all of it was copied in, and no row came yet. */
  slot: SlotIndex | undefined
  /** What its keys and values were computed with, as a number. */
  readonly weights: number
}

/** Of a token in a copy of its keys and values: the token, and what it was computed with. */
const TOKEN_BYTES = 8

/**
 * An engine whose distribution over the next token is a pure function of the tokens so far and of the adapter that is in the
 * row's slot at that moment. Every rule of the Engine contract is asserted; a test can hold a step, or make one fail.
 */
export class FakeEngine implements Engine {
  readonly model = fakeSpec
  readonly capacity: Capacity
  readonly description = { kind: 'fake', device: 'none', lora: 'hash' }
  readonly packedDtype = 'f32'
  readonly slots: number
  readonly runsTogether: boolean
  /** Every step so far, in order. */
  readonly steps: EngineStep[] = []
  /** What each step left of the sequences, and every broken rule: the loop turns a throw into failed requests, so it is kept here. */
  readonly violations: string[] = []
  /** Of the keys and values, and how many tokens of them were copied out. */
  readonly tokenBytes = TOKEN_BYTES
  readonly prefix: PrefixMemory = this
  copiedOut = 0
  readonly #neverEnds: boolean
  readonly #memory: number
  readonly #onStep: ((step: EngineStep) => void) | undefined
  /** Sequences of which every row so far was pooled. */
  readonly #pooled = new Set<SequenceId>()
  readonly #sequences = new Map<SequenceId, Held>()
  readonly #slots: ({ state: 'loading' } | { state: 'loaded'; digest: AdapterDigest } | undefined)[]
  #inStep = false
  #closed = false
  #hold: Promise<void> | undefined
  #letGo = () => {}
  #failures: unknown[] = []
  #loadFailures: unknown[] = []
  #stepWaiters: { count: number; resolve: () => void }[] = []

  constructor(options: FakeEngineOptions = {}) {
    const { neverEnds = false, runsTogether = true, memory = Number.POSITIVE_INFINITY, onStep, ...capacity } = options
    this.capacity = { sequences: 4, totalTokens: 256, slots: 2, maxRank: 8, chunkTokens: 8, ...capacity }
    this.slots = this.capacity.slots
    this.runsTogether = runsTogether
    this.#neverEnds = neverEnds
    this.#memory = memory
    this.#onStep = onStep
    this.#slots = Array.from({ length: this.slots }, () => undefined)
  }

  /** Sequences whose keys and values are held. */
  get held(): readonly SequenceId[] {
    return [...this.#sequences.keys()]
  }
  get isClosed(): boolean {
    return this.#closed
  }
  get isInStep(): boolean {
    return this.#inStep
  }

  /** The step after this call begins but does not end before `release`. */
  holdSteps(): void {
    this.#hold = new Promise((resolve) => {
      this.#letGo = resolve
    })
  }

  releaseSteps(): void {
    this.#hold = undefined
    this.#letGo()
  }

  failNextStep(error: unknown): void {
    this.#failures.push(error)
  }

  failNextLoad(error: unknown): void {
    this.#loadFailures.push(error)
  }

  /** Resolves when the `count`-th step since the engine was made has begun. */
  stepBegun(count: number): Promise<void> {
    if (this.steps.length >= count) return Promise.resolve()
    return new Promise((resolve) => this.#stepWaiters.push({ count, resolve }))
  }

  async loadAdapter(slot: SlotIndex, packed: PackedAdapter): Promise<void> {
    this.#must(slot >= 0 && slot < this.slots, `slot ${slot} does not exist`)
    this.#must(this.#slots[slot]?.state !== 'loading', `slot ${slot} is loaded twice at once`)
    this.#mustBeUnused(slot)
    this.#slots[slot] = { state: 'loading' }
    const failure = this.#loadFailures.shift()
    for (let slice = 0; slice < 3; slice++) await new Promise(setImmediate)
    if (failure !== undefined) {
      this.#slots[slot] = undefined
      throw failure
    }
    this.#slots[slot] = { state: 'loaded', digest: packed.digest }
  }

  clearSlot(slot: SlotIndex): void {
    this.#mustBeUnused(slot)
    this.#slots[slot] = undefined
  }

  async step(step: EngineStep): Promise<StepResult> {
    this.#must(!this.#inStep, 'step is called while a step runs')
    this.#must(!this.#closed, 'step is called after close')
    this.#inStep = true
    try {
      this.steps.push(step)
      this.#checkRows(step)
      this.#onStep?.(step)
      for (const waiter of this.#stepWaiters) if (this.steps.length >= waiter.count) waiter.resolve()
      this.#stepWaiters = this.#stepWaiters.filter(({ count }) => this.steps.length < count)
      // Like the real one, it leaves the event loop free while it computes.
      await new Promise(setImmediate)
      await this.#hold
      const failure = this.#failures.shift()
      if (failure !== undefined) throw failure
      return this.#compute(step)
    } finally {
      this.#inStep = false
    }
  }

  meanHidden(sequence: SequenceId): Float32Array {
    this.#must(!this.#inStep, 'meanHidden is called during a step')
    const held = this.#sequences.get(sequence)
    this.#must(held !== undefined && this.#pooled.has(sequence), `sequence ${sequence} is not pooled`)
    return fakeMean(held?.tokens ?? [], this.#digestIn(held?.slot ?? BASE_SLOT))
  }

  truncate(sequence: SequenceId, length: number): void {
    this.#must(!this.#inStep, 'truncate is called during a step')
    this.#must(!this.#pooled.has(sequence), `sequence ${sequence} is pooled and cut`)
    const held = this.#sequences.get(sequence)
    this.#must(held !== undefined && length <= held.tokens.length, `sequence ${sequence} is cut where it has nothing`)
    if (held !== undefined) held.tokens.length = length
  }

  copyOut(sequence: SequenceId, from: number, count: number, target: Uint8Array): void {
    const held = this.#sequences.get(sequence)
    const isThere = held !== undefined && from + count <= held.tokens.length && target.length === count * TOKEN_BYTES
    this.#must(isThere, `sequence ${sequence} has no ${count} tokens from ${from} on`)
    const bytes = Buffer.from(target.buffer, target.byteOffset, target.length)
    for (let i = 0; i < count; i += 1) {
      bytes.writeUInt32LE(held?.tokens[from + i] ?? 0, i * TOKEN_BYTES)
      bytes.writeUInt32LE(held?.weights ?? 0, i * TOKEN_BYTES + 4)
    }
    this.copiedOut += count
  }

  copyIn(sequence: SequenceId, from: number, count: number, source: Uint8Array): void {
    this.#must(!this.#inStep, 'copyIn is called during a step')
    const bytes = Buffer.from(source.buffer, source.byteOffset, source.length)
    const weights = bytes.readUInt32LE(4)
    const held = this.#sequences.get(sequence) ?? { tokens: [], slot: undefined, weights }
    this.#must(held.tokens.length === from && held.weights === weights, `sequence ${sequence} stands elsewhere than at ${from}`)
    for (let i = 0; i < count; i += 1) held.tokens.push(bytes.readUInt32LE(i * TOKEN_BYTES))
    this.#sequences.set(sequence, held)
  }

  release(sequence: SequenceId): void {
    this.#must(!this.#inStep, 'release is called during a step')
    this.#pooled.delete(sequence)
    this.#sequences.delete(sequence)
  }

  async close(): Promise<void> {
    this.#must(!this.#inStep, 'close is called during a step')
    this.#closed = true
  }

  #compute(step: EngineStep): StepResult {
    const wanted = new Map(step.wanted.map(({ row, top }) => [row, top]))
    const outputs: RowOutput[] = []
    for (const [index, row] of step.rows.entries()) {
      let held = this.#sequences.get(row.sequence)
      if (held === undefined) {
        this.#must(this.#sequences.size < this.capacity.sequences, 'more sequences than the capacity')
        held = { tokens: [], slot: row.slot, weights: weightsOf(this.#digestIn(row.slot)) }
        this.#sequences.set(row.sequence, held)
      }
      held.slot = row.slot
      held.tokens.push(row.token)
      const top = wanted.get(index)
      if (top === undefined) continue
      const logprobs = fakeLogprobs(held.tokens.slice(-this.#memory), this.#digestIn(row.slot), this.#neverEnds)
      const order = [...logprobs.keys()].sort((a, b) => (logprobs[b] ?? 0) - (logprobs[a] ?? 0)).slice(0, top)
      outputs.push({ row: index, topIds: order, topLogprobs: order.map((id) => logprobs[id] ?? Number.NaN), logprobs })
    }
    return outputs
  }

  #digestIn(slot: SlotIndex): AdapterDigest | undefined {
    if (slot === -1) return undefined
    const content = this.#slots[slot]
    this.#must(content?.state === 'loaded', `slot ${slot} is used but holds no adapter`)
    return content?.state === 'loaded' ? content.digest : undefined
  }

  #checkRows({ rows, wanted, pooled }: EngineStep): void {
    this.#must(rows.length > 0, 'a step without rows')
    const next = new Map<SequenceId, number>()
    const perSequence = new Map<SequenceId, number>()
    const seenSlots = new Set<SlotIndex>()
    for (const [index, row] of rows.entries()) {
      const before = rows[index - 1]
      const held = this.#sequences.get(row.sequence)
      const expected = next.get(row.sequence) ?? held?.tokens.length ?? 0
      this.#must(row.position === expected, `sequence ${row.sequence} has position ${row.position} where ${expected} comes next`)
      this.#must(row.position < this.capacity.totalTokens, `position ${row.position} is beyond the capacity`)
      if (before?.sequence !== row.sequence) this.#must(!next.has(row.sequence), `rows of sequence ${row.sequence} are apart`)
      else this.#must(before.slot === row.slot, `sequence ${row.sequence} uses two slots`)
      if (held?.slot !== undefined) this.#must(held.slot === row.slot, `sequence ${row.sequence} changed its slot`)
      const isOwn = held === undefined || held.weights === weightsOf(this.#digestIn(row.slot))
      this.#must(isOwn, `sequence ${row.sequence} goes on with keys and values of other weights`)
      if (before?.slot !== row.slot) {
        this.#must(!seenSlots.has(row.slot), `rows of slot ${row.slot} are apart`)
        seenSlots.add(row.slot)
      }
      next.set(row.sequence, row.position + 1)
      perSequence.set(row.sequence, (perSequence.get(row.sequence) ?? 0) + 1)
      this.#digestIn(row.slot)
    }
    for (const id of perSequence.keys()) {
      const isPooled = pooled?.includes(id) ?? false
      if (isPooled && !this.#sequences.has(id)) this.#pooled.add(id)
      this.#must(this.#pooled.has(id) === isPooled, `sequence ${id} is pooled in some steps only`)
    }
    this.#must(pooled?.every((id) => perSequence.has(id)) ?? true, 'a pooled sequence has no rows')
    for (const count of perSequence.values()) this.#must(count <= this.capacity.chunkTokens, `${count} rows of one sequence`)
    this.#must(
      wanted.every(({ row, top }, index) => row < rows.length && top >= 1 && row > (wanted[index - 1]?.row ?? -1)),
      'wanted rows are not ascending',
    )
  }

  #mustBeUnused(slot: SlotIndex): void {
    const users = [...this.#sequences].filter(([, held]) => held.slot === slot).map(([sequence]) => sequence)
    this.#must(users.length === 0, `slot ${slot} is changed while sequences ${users} use it`)
  }

  #must(holds: boolean, rule: string): void {
    if (holds) return
    this.violations.push(rule)
    assert.fail(rule)
  }
}

/** The tokens that a greedy request must be answered with: the engine's own function, without engine, batch or slots. */
export function referenceTokens(
  promptIds: readonly number[],
  count: number,
  options: { readonly digest?: string | undefined; readonly neverEnds?: boolean; readonly ignoreEos?: boolean } = {},
): number[] {
  const tokens = [...promptIds]
  while (tokens.length < promptIds.length + count) {
    const logprobs = fakeLogprobs(tokens, options.digest, options.neverEnds ?? false)
    const best = logprobs.indexOf(Math.max(...logprobs))
    tokens.push(best)
    if (best === fakeEosId && options.ignoreEos !== true) break
  }
  return tokens.slice(promptIds.length)
}

/** Natural log-probabilities over the fake vocabulary, [fakeVocabSize]. */
export function fakeLogprobs(tokens: readonly number[], digest: string | undefined, neverEnds: boolean): Float32Array {
  let state = digest === undefined ? 0x811c9dc5 : Number.parseInt(digest.slice(0, 8), 16)
  for (const token of tokens) state = mix(state ^ (token + 0x9e3779b9))
  const logits = Float32Array.from({ length: fakeVocabSize }, (_, id) => (mix(state + id * 0x85ebca6b) >>> 0) / 2 ** 29)
  if (neverEnds) logits[fakeEosId] = -20
  const sum = logits.reduce((total, logit) => total + Math.exp(logit), 0)
  return logits.map((logit) => logit - Math.log(sum))
}

/** The mean over the tokens of a state that is a pure function of the tokens so far and the adapter, [fakeSpec.hiddenSize]. */
export function fakeMean(tokens: readonly number[], digest: string | undefined): Float32Array {
  const mean = new Float32Array(fakeSpec.hiddenSize)
  for (const length of tokens.keys()) {
    const state = fakeLogprobs(tokens.slice(0, length + 1), digest, false)
    for (const i of mean.keys()) mean[i] = (mean[i] ?? 0) + (state[i] ?? 0) / tokens.length
  }
  return mean
}

/** 0 for the base. */
function weightsOf(digest: AdapterDigest | undefined): number {
  return digest === undefined ? 0 : Number.parseInt(digest.slice(0, 8), 16)
}

/** A 32-bit mixer (the finaliser of MurmurHash3). */
function mix(value: number): number {
  let mixed = value | 0
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
  return mixed ^ (mixed >>> 16)
}
