import assert from 'node:assert/strict'
import type { AdapterCache, AdapterLease } from '@quiver/cache'
import { type Clock, type FinishReason, type RunEvent, ServingError, type SlotIndex, toServingError } from '@quiver/protocol'
import type { Engine, RowOutput, StepResult } from '../engine/engine.ts'
import type { PrefixCache } from '../prefix/prefix-cache.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import type { Batch, FinishCause } from './batch.ts'
import { earlyError } from './early-errors.ts'
import type { Generation, Sequence, SequenceSlot } from './sequence.ts'
import type { Admission, PlannedFinish, PlannedLoad, RunPlan, SequenceRows, StepPlan } from './step-plan.ts'

export interface StepDeps {
  readonly engine: Pick<Engine, 'release' | 'truncate' | 'meanHidden'>
  readonly device: AdapterCache['device']
  readonly tokenizer: Pick<Tokenizer, 'decode' | 'isSpecial'>
  /** Tokens that end a text: those of the model and of its tokenizer. */
  readonly eosTokenIds: ReadonlySet<number>
  readonly clock: Clock
  /** Absent: every prompt is computed whole. */
  readonly prefix?: Pick<PrefixCache, 'restore' | 'computed' | 'leave'> | undefined
  /** Starts a load and returns at once; its end is an event for a later plan. */
  startLoad(lease: AdapterLease, slot: SlotIndex): void
}

/**
 * Carries out what a plan says about sequences and slots, before its rows are computed: who leaves, which loads start, who is
 * admitted. In that order, because leaving frees the slots that loads and admissions use.
 */
export function beginStep(batch: Batch, plan: StepPlan, deps: StepDeps): void {
  for (const finish of plan.finishes) endEarly(batch, finish, deps)
  for (const load of plan.loads) start(batch, load, deps)
  for (const admission of plan.admissions) admit(batch, admission, deps)
}

/**
 * Takes a step's result into the sequences: counts what is computed, chooses the next tokens, sends them out, and ends those
 * that are complete. The outputs' arrays are not kept.
 */
export function applyStep(batch: Batch, plan: RunPlan, result: StepResult, deps: StepDeps): void {
  assert(result.length === plan.wanted.length, `the engine answered ${result.length} of ${plan.wanted.length} wanted rows`)
  const outputs = new Map(result.map((output) => [output.row, output]))
  // Before anybody ends: whoever has nothing here any more is not counted.
  batch.ledger.charge(plan.charges, deps.clock.nowMs())
  let accepted = 0
  for (const work of plan.work) {
    const sequence = batch.get(work.sequence)
    const skipped = sequence.skippedCount
    try {
      takeRows(batch, { sequence, work, outputs }, deps)
    } catch (thrown) {
      // An expected failure concerns this sequence alone; anything else is our own bug and ends the process in the loop.
      if (!(thrown instanceof ServingError)) throw thrown
      end(batch, sequence, 'failed', errorEvent(thrown), deps)
    }
    accepted += sequence.skippedCount - skipped
  }
  const prefillRows = plan.work.reduce((sum, { phase, rowCount }) => sum + (phase === 'prefill' ? rowCount : 0), 0)
  const drafted = plan.work.reduce((sum, { draft }) => sum + draft.length, 0)
  batch.counters.steps += 1
  batch.counters.rows += plan.rows.length
  batch.counters.prefillRows += prefillRows
  batch.counters.decodeRows += plan.rows.length - prefillRows - drafted + accepted
  batch.counters.drafted += drafted
  batch.counters.accepted += accepted
}

/** The step failed: what the engine now holds of its sequences is unknown, so all of them end. */
export function abandonStep(batch: Batch, plan: RunPlan, thrown: unknown, deps: StepDeps): void {
  batch.counters.failedSteps += 1
  const error = toServingError(thrown)
  for (const work of plan.work) end(batch, batch.get(work.sequence), 'failed', errorEvent(error), deps)
}

/** Ends everything that waits or runs. */
export function endAll(batch: Batch, error: ServingError, deps: StepDeps): void {
  for (const sequence of [...batch.all()]) end(batch, sequence, 'stopped', errorEvent(error), deps)
}

export function errorEvent(error: ServingError): Extract<RunEvent, { type: 'error' }> {
  const { retryAfterS } = error.context
  const retry = typeof retryAfterS === 'number' ? { retryAfterS } : {}
  return { type: 'error', code: error.code, message: error.message, ...retry }
}

/** Ends a sequence; one that has ended already is left alone. */
export function end(
  batch: Batch,
  sequence: Sequence,
  cause: FinishCause,
  event: Extract<RunEvent, { type: 'done' | 'error' }>,
  deps: StepDeps,
): void {
  if (sequence.isFinished) return
  deps.prefix?.leave(sequence.id, event.type === 'done' ? 'complete' : 'broken')
  deps.engine.release(sequence.id)
  batch.finish(sequence, cause, event)
}

function endEarly(batch: Batch, { sequence: id, cause }: PlannedFinish, deps: StepDeps): void {
  const sequence = batch.get(id)
  const { adapter } = sequence.init
  if (cause === 'late' && adapter.kind === 'adapter') adapter.lease.releaseLoading()
  end(batch, sequence, cause, errorEvent(earlyError(sequence, cause)), deps)
}

function start(batch: Batch, load: PlannedLoad, deps: StepDeps): void {
  const { adapter } = batch.get(load.sequence).init
  assert(adapter.kind === 'adapter' && adapter.lease.digest === load.digest, `a load of ${load.digest} without its lease`)
  const slot = deps.device.snapshot()[load.slot]
  assert(slot?.generation === load.generation, `slot ${load.slot} changed hands between plan and load`)
  assert(slot.state !== 'resident' || slot.leaseCount === 0, `slot ${load.slot} is in use and may not be evicted`)
  batch.counters.loads += 1
  deps.startLoad(adapter.lease, load.slot)
}

function admit(batch: Batch, admission: Admission, deps: StepDeps): void {
  batch.admit(admission.sequence, takeSlot(admission, deps), deps.clock.nowMs())
  const sequence = batch.get(admission.sequence)
  const { prefixKeys, promptIds } = sequence.init
  if (prefixKeys === undefined || deps.prefix === undefined) return
  sequence.takeCached(deps.prefix.restore(sequence.id, prefixKeys, promptIds.length))
}

function takeSlot(admission: Admission, { device }: StepDeps): SequenceSlot {
  if (admission.kind === 'base') return { kind: 'base' }
  const lease = device.lease(admission.slot, admission.digest)
  assert(lease.generation === admission.generation, `slot ${admission.slot} changed hands between plan and admission`)
  return { kind: 'adapter', lease }
}

interface RowsDone {
  readonly sequence: Sequence
  readonly work: SequenceRows
  readonly outputs: ReadonlyMap<number, RowOutput>
}

function takeRows(batch: Batch, { sequence, work, outputs }: RowsDone, deps: StepDeps): void {
  const { init } = sequence
  const isTold = init.kind === 'generate' && init.prefillDetails && work.phase === 'prefill'
  if (isTold) notePrompt({ sequence, work, outputs })
  sequence.advance(work.rowCount - work.draft.length)
  if (work.phase === 'prefill') deps.prefix?.computed(sequence.id, sequence.computed)
  if (!sequence.isCurrent) return
  if (init.kind === 'embed') {
    takeEmbedding(batch, sequence, deps)
    return
  }
  if (isTold) sendPrompt(sequence, deps)
  takeTokens(batch, { sequence, work, outputs, generation: init }, deps)
}

/**
 * The next token, and those after it as far as the draft guessed right: a row of a draft is what the model says after the
 * tokens before it, so it counts if these are the ones that came. Every token is chosen by the request's own rules from the
 * same distribution, and by the same random number, as without the draft; the rows after a wrong guess are forgotten.
 */
function takeTokens(batch: Batch, step: RowsDone & { readonly generation: Generation }, deps: StepDeps): void {
  const { sequence, work, outputs, generation } = step
  const { draft } = work
  const first = work.firstRow + work.rowCount - 1 - draft.length
  for (let guessed = 0; guessed <= draft.length; guessed++) {
    const output = outputs.get(first + guessed)
    assert(output !== undefined, `the engine left out a row of sequence ${sequence.id}`)
    const id = takeToken(batch, { sequence, generation, output, isSkipped: guessed > 0 }, deps)
    if (sequence.isFinished || guessed === draft.length) return
    if (id !== draft[guessed]) {
      deps.engine.truncate(sequence.id, sequence.computed)
      return
    }
    sequence.advance(1)
  }
}

/** Each prompt row's distribution gives the log-probability of the prompt token after it. */
function notePrompt({ sequence, work, outputs }: RowsDone): void {
  for (let index = 0; index < work.rowCount; index++) {
    const next = sequence.tokens[sequence.computed + index + 1]
    if (next === undefined) return
    const logprob = outputs.get(work.firstRow + index)?.logprobs[next]
    assert(logprob !== undefined, `the engine left out a prompt row of sequence ${sequence.id}`)
    if (!Number.isFinite(logprob)) throw notFinite()
    sequence.notePromptLogprob(logprob)
  }
}

/** Tells the prompt's tokens with the log-probabilities that were noted. */
export function sendPrompt(sequence: Sequence, { tokenizer }: Pick<StepDeps, 'tokenizer'>): void {
  const tokens = sequence.init.promptIds.map((id, index) => {
    const logprob = sequence.promptLogprobs[index - 1]
    const text = tokenizer.decode([id], { keepSpecial: true })
    return logprob === undefined ? { id, text } : { id, text, logprob }
  })
  sequence.init.sink.send({ type: 'prefill', tokens })
}

/** All of the text is computed: sends the mean of its hidden states and ends the sequence. */
function takeEmbedding(batch: Batch, sequence: Sequence, deps: StepDeps): void {
  const mean = deps.engine.meanHidden(sequence.id)
  if (!mean.every(Number.isFinite)) throw notFinite()
  sequence.init.sink.send({ type: 'embedding', values: toBase64(mean) })
  end(batch, sequence, 'length', sequence.doneEvent({ reason: 'length', text: '', nowMs: deps.clock.nowMs() }), deps)
}

/** Of float32, little-endian whatever this machine is. */
function toBase64(values: Float32Array): string {
  const bytes = Buffer.allocUnsafe(values.length * 4)
  for (const [i, value] of values.entries()) bytes.writeFloatLE(value, i * 4)
  return bytes.toString('base64')
}

interface NextToken {
  readonly sequence: Sequence
  readonly generation: Generation
  readonly output: RowOutput
  readonly isSkipped: boolean
}

/** Chooses the next token and takes it. */
function takeToken(batch: Batch, { sequence, generation, output, isSkipped }: NextToken, deps: StepDeps): number {
  const { sampler } = generation
  const { id, logprob } = sampler.choose(output)
  if (!Number.isFinite(logprob)) throw notFinite()
  sampler.accept(id)
  const { topIds, topLogprobs } = output
  takeChosen(batch, { sequence, generation, chosen: { id, logprob, topIds, topLogprobs, isSkipped } }, deps)
  return id
}

/** The token that a sequence goes on with, and the most likely ones beside it, best first: as many as its alternatives. */
export interface ChosenToken extends Pick<RowOutput, 'topIds' | 'topLogprobs'> {
  readonly id: number
  readonly logprob: number
  /** It came from a row of a draft. */
  readonly isSkipped: boolean
}

/** Sends a sequence's next token out, and ends the sequence with it where it is the last. */
export function takeChosen(
  batch: Batch,
  next: { readonly sequence: Sequence; readonly generation: Generation; readonly chosen: ChosenToken },
  deps: StepDeps,
): void {
  const { sequence, generation, chosen } = next
  const { id, logprob, isSkipped } = chosen
  const { stops, text } = generation
  const nowMs = deps.clock.nowMs()
  sequence.push(id, nowMs, isSkipped)
  const certain = text.push(id)
  const reason = finishReason(sequence, generation, { id, stopped: stops.push(certain) }, deps)
  sequence.init.sink.send({
    type: 'token',
    id,
    text: reason === undefined ? certain : certain + text.end(),
    logprob,
    special: deps.tokenizer.isSpecial(id),
    last: reason !== undefined,
    ...(isSkipped ? { skipped: true as const } : {}),
    ...alternativesOf(generation, chosen, deps),
  })
  if (reason === undefined) return
  const done = sequence.doneEvent({ reason, text: deps.tokenizer.decode(sequence.generatedIds), nowMs })
  end(batch, sequence, reason, done, deps)
}

function notFinite(): ServingError {
  return new ServingError('internal', 'the model gave no finite probabilities; the adapter may hold values out of range')
}

/** Length is tested first, as LoRAX does: if the last allowed token is the end of the text, the reason is `length`. */
function finishReason(
  sequence: Sequence,
  { maxNewTokens, ignoreEos, constraint }: Generation,
  { id, stopped }: { readonly id: number; readonly stopped: boolean },
  { eosTokenIds }: StepDeps,
): FinishReason | undefined {
  if (sequence.generatedCount >= maxNewTokens) return 'length'
  // After a text that has its form nothing may follow.
  const mayEnd = !ignoreEos || constraint !== undefined
  if (mayEnd && eosTokenIds.has(id)) return 'eos_token'
  return stopped ? 'stop_sequence' : undefined
}

function alternativesOf({ alternatives: count }: Generation, { topIds, topLogprobs }: ChosenToken, { tokenizer }: StepDeps) {
  if (count === 0) return {}
  const alternatives = topIds.slice(0, count).map((id, index) => {
    const logprob = topLogprobs[index]
    assert(logprob !== undefined, `the engine gave no log-probability for alternative ${id}`)
    return { id, text: tokenizer.decode([id], { keepSpecial: true }), logprob, special: tokenizer.isSpecial(id) }
  })
  return { alternatives }
}
