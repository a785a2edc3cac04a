import { ServingError } from '@quiver/protocol'
import { afterEach, describe, expect, it } from 'vitest'
import { EngineBroken } from '../../packages/worker/src/engine/engine-broken.ts'
import { OVERTAKEN_MS } from '../../packages/worker/src/step/fair-order.ts'
import { BatchHarness, type HarnessOptions } from '../support/batch-harness.ts'
import { fakeDigest } from '../support/fake-adapter-cache.ts'
import { referenceTokens } from '../support/fake-engine.ts'
import { fakeTokenizer } from '../support/fake-tokenizer.ts'

let harness = new BatchHarness()
const start = (options: HarnessOptions = {}) => {
  harness = new BatchHarness(options)
  return harness
}
const idsOf = (text: string) => fakeTokenizer().encode(text)

/** After every test: nothing is held by anybody, and no rule of the engine was broken. */
afterEach(async () => {
  harness.engine.releaseSteps()
  await harness.loop.close()
  expect(harness.engine.violations).toEqual([])
  expect(harness.engine.held).toEqual([])
  expect(harness.cache.leaseCount).toBe(0)
  expect(harness.loop.state().leases).toEqual({ adapters: 0, slots: 0 })
  expect(harness.clock.pending).toBe(0)
})

describe('the batch loop', () => {
  it('answers a run with accepted, its tokens in order, and done', async () => {
    const { clock } = start({ neverEnds: true })
    const run = harness.run({ inputs: 'hello', maxNewTokens: 4 })
    expect(await run.end).toMatchObject({ type: 'done', finishReason: 'length', promptTokens: 5, generatedTokens: 4 })
    expect(run.events.map(({ type }) => type)).toEqual(['accepted', 'token', 'token', 'token', 'token', 'done'])
    expect(run.tokens).toEqual(referenceTokens(idsOf('hello'), 4, { neverEnds: true }))
    expect(run.events.flatMap((event) => (event.type === 'token' ? [event.last] : []))).toEqual([false, false, false, true])
    expect(clock.pending).toBe(0)
  })

  it('lets sequences join and leave at every step', async () => {
    const { engine } = start({ neverEnds: true })
    const first = harness.run({ inputs: 'a', maxNewTokens: 6 })
    await engine.stepBegun(2)
    const second = harness.run({ inputs: 'bb', maxNewTokens: 2 })
    await engine.stepBegun(4)
    const third = harness.run({ inputs: 'ccc', maxNewTokens: 1 })
    await Promise.all([first.end, second.end, third.end])
    const members = engine.steps.map(({ rows }) => [...new Set(rows.map(({ sequence }) => sequence))].join('+'))
    expect(members).toEqual(['1', '1', '1+2', '1+2', '1+3', '1'])
    expect(second.tokens).toEqual(referenceTokens(idsOf('bb'), 2, { neverEnds: true }))
    expect(third.tokens).toEqual(referenceTokens(idsOf('ccc'), 1, { neverEnds: true }))
  })

  it('computes each sequence with its own adapter, in one batch, with more adapters than slots', async () => {
    const { engine } = start({ slots: 2, sequences: 4, neverEnds: true })
    const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g']
    const runs = names.map((on) => harness.run({ inputs: 'same', on, maxNewTokens: 7 }))
    const base = harness.run({ inputs: 'same', maxNewTokens: 7 })
    for (const [index, run] of runs.entries()) {
      expect(await run.end).toMatchObject({ type: 'done' })
      const digest = fakeDigest(names[index] ?? '')
      expect(run.tokens).toEqual(referenceTokens(idsOf('same'), 7, { digest, neverEnds: true }))
      expect(run.events[0]).toMatchObject({ type: 'accepted', adapterDigest: digest })
    }
    await base.end
    expect(base.tokens).toEqual(referenceTokens(idsOf('same'), 7, { neverEnds: true }))
    expect(harness.loop.state().loads).toBe(7)
    const mixed = engine.steps.filter(({ rows }) => new Set(rows.map(({ slot }) => slot)).size === 3)
    expect(mixed.length).toBeGreaterThan(0)
  })

  it('keeps a long prompt from stopping a running stream for more than one chunk', async () => {
    const { engine } = start({ chunkTokens: 8, neverEnds: true })
    const stream = harness.run({ inputs: 'a', maxNewTokens: 30 })
    await engine.stepBegun(3)
    const long = harness.run({ inputs: 'x'.repeat(100), maxNewTokens: 2 })
    await Promise.all([stream.end, long.end])
    const withLong = engine.steps.filter(({ rows }) => rows.some(({ sequence }) => sequence === 2))
    expect(withLong.slice(0, 12).every(({ rows }) => rows.length === 9)).toBe(true)
    // Every step had one row of the stream until it was over.
    expect(engine.steps.slice(0, 30).every(({ rows }) => rows.filter(({ sequence }) => sequence === 1).length === 1)).toBe(true)
    expect(long.tokens).toEqual(referenceTokens(idsOf('x'.repeat(100)), 2, { neverEnds: true }))
  })

  it('serves others while an adapter is on its way, and runs the waiter as soon as it is there', async () => {
    const { cache } = start({ neverEnds: true })
    cache.behave('slow', { held: true })
    const waiter = harness.run({ on: 'slow' })
    await Promise.all(['a', 'b', 'a'].map((on) => harness.run({ on }).end))
    expect(harness.loop.state()).toMatchObject({ waiting: 1, running: 0 })
    cache.letGo('slow')
    expect(await waiter.end).toMatchObject({ type: 'done' })
  })

  it('does not compute again for an adapter in a slot what others wait for', async () => {
    start({ slots: 2, neverEnds: true })
    for (const on of ['a', 'b', 'a', 'b', 'a']) await harness.run({ on }).end
    expect(harness.loop.state().loads).toBe(2)
  })

  it('gives a waiter without a slot the next free one, however many others keep coming for the resident adapter', async () => {
    const { engine } = start({ slots: 1, sequences: 4, neverEnds: true })
    const flood = [harness.run({ on: 'hot', maxNewTokens: 9 })]
    await engine.stepBegun(1)
    const waiter = harness.run({ on: 'cold', maxNewTokens: 3 })
    // From then on nobody overtakes it because of what is in the slot.
    harness.clock.advance(OVERTAKEN_MS)
    const servedBefore = waiter.end.then(() => harness.loop.state().finished.length)
    for (let index = 0; index < 40; index++) {
      await harness.turns(1)
      flood.push(harness.run({ on: 'hot', maxNewTokens: 9 }))
    }
    expect(await servedBefore).toBeLessThanOrEqual(2)
    expect(waiter.tokens).toEqual(referenceTokens(idsOf('hello'), 3, { digest: fakeDigest('cold'), neverEnds: true }))
    await Promise.all(flood.map(({ end }) => end))
  })
})

describe('the end of a sequence', () => {
  /** A prompt after which the fake model ends its text at the n-th token. */
  function promptEndingAt(count: number): string {
    for (const a of 'abcdefghijklmnopqrstuvwxyz')
      for (const b of 'abcdefghijklmnopqrstuvwxyz')
        for (const c of 'abcdefghijklmnopqrstuvwxyz') {
          if (referenceTokens(idsOf(a + b + c), count + 1).length === count) return a + b + c
        }
    throw new Error('no such prompt')
  }

  it('is the end-of-text token unless it is ignored', async () => {
    start()
    const inputs = promptEndingAt(3)
    expect(await harness.run({ inputs, ignoreEos: false, maxNewTokens: 10 }).end).toMatchObject({
      finishReason: 'eos_token',
      generatedTokens: 3,
    })
    expect(await harness.run({ inputs, ignoreEos: true, maxNewTokens: 10 }).end).toMatchObject({ finishReason: 'length' })
  })

  it('is length when the last allowed token is the end of the text', async () => {
    start()
    const end = await harness.run({ inputs: promptEndingAt(3), ignoreEos: false, maxNewTokens: 3 }).end
    expect(end).toMatchObject({ finishReason: 'length', generatedTokens: 3 })
  })

  it('marks the end-of-text token as special and leaves it out of the text', async () => {
    start()
    const inputs = promptEndingAt(2)
    const run = harness.run({ inputs, ignoreEos: false, maxNewTokens: 10 })
    const [first] = referenceTokens(idsOf(inputs), 1)
    expect(await run.end).toMatchObject({ generatedText: fakeTokenizer().decode([first ?? 0]) })
    expect(run.events.at(-2)).toMatchObject({ type: 'token', id: 0, text: '<end>', special: true, last: true })
  })

  it('is a stop sequence, which stays in the text', async () => {
    start({ neverEnds: true })
    const text = fakeTokenizer().decode(referenceTokens(idsOf('hello'), 6, { neverEnds: true }))
    const stop = text.slice(2, 4)
    const at = text.indexOf(stop) + 2
    const end = await harness.run({ stop: [stop], maxNewTokens: 20 }).end
    expect(end).toMatchObject({ finishReason: 'stop_sequence', generatedText: text.slice(0, at), generatedTokens: at })
  })

  it('is the deadline, while it waits for a place, for its adapter, in its prompt and in its answer', async () => {
    const { engine, cache, clock } = start({ sequences: 2, neverEnds: true })
    cache.behave('slow', { held: true })
    cache.behave('lost', { resolveHeld: true })
    const decoding = harness.run({ inputs: 'a', maxNewTokens: 50, deadlineMs: 100 })
    await engine.stepBegun(2)
    const prefilling = harness.run({ inputs: 'x'.repeat(100), maxNewTokens: 1, deadlineMs: 100 })
    await engine.stepBegun(5)
    engine.holdSteps()
    const queued = harness.run({ deadlineMs: 100 })
    const arriving = harness.run({ on: 'slow', deadlineMs: 100 })
    const resolving = harness.run({ on: 'lost', deadlineMs: 100 })
    await harness.turns()
    clock.advance(100)
    engine.releaseSteps()
    for (const run of [decoding, prefilling, queued]) {
      expect(await run.end).toMatchObject({ type: 'error', code: 'deadline_exceeded' })
    }
    for (const run of [arriving, resolving]) expect(await run.end).toMatchObject({ type: 'error', code: 'adapter_arriving' })
    expect(decoding.tokens.length).toBeGreaterThan(0)
    expect(prefilling.tokens).toEqual([])
    expect(harness.loop.state().finished).toMatchObject({ expired: 3, late: 1 })
    cache.letGo('lost')
    cache.letGo('slow')
    await harness.turns()
  })

  it('wakes the sleeping loop for a deadline, also for one that is further off than a timer can count', async () => {
    const { cache, clock } = start({ arrivalMs: Number.POSITIVE_INFINITY })
    cache.behave('slow', { held: true })
    const run = harness.run({ on: 'slow', deadlineMs: 2 ** 33 })
    await harness.turns()
    clock.advance(2 ** 33 - 1)
    await harness.turns()
    expect(run.events.map(({ type }) => type)).toEqual(['accepted'])
    clock.advance(1)
    expect(await run.end).toMatchObject({ code: 'adapter_arriving' })
    cache.letGo('slow')
  })

  it('is within two steps of a cancellation, in every phase', async () => {
    const { engine, cache } = start({ sequences: 2, neverEnds: true })
    cache.behave('slow', { held: true })
    const decoding = harness.run({ inputs: 'a', maxNewTokens: 200 })
    await engine.stepBegun(2)
    const prefilling = harness.run({ inputs: 'x'.repeat(100), maxNewTokens: 5 })
    await engine.stepBegun(4)
    const queued = harness.run()
    const arriving = harness.run({ on: 'slow' })
    await harness.turns(3)
    const before = engine.steps.length
    for (const run of [prefilling, queued, arriving]) run.cancel()
    for (const run of [prefilling, queued, arriving]) expect(await run.end).toMatchObject({ code: 'client_closed' })
    expect(engine.steps.length - before).toBeLessThanOrEqual(2)
    expect(engine.held).toEqual([1])
    const later = engine.steps.length
    decoding.cancel()
    await decoding.end
    expect(engine.steps.length - later).toBeLessThanOrEqual(2)
    cache.letGo('slow')
  })

  it('comes once when a run is cancelled in the step that completes it', async () => {
    const { engine } = start({ neverEnds: true })
    engine.holdSteps()
    const run = harness.run({ on: 'a', maxNewTokens: 1 })
    await engine.stepBegun(1)
    run.cancel()
    engine.releaseSteps()
    expect(await run.end).toMatchObject({ type: 'done' })
    await harness.turns()
    expect(run.events.filter(({ type }) => type === 'done' || type === 'error')).toHaveLength(1)
  })
})

describe('failures', () => {
  it('of an adapter reach those who wait for it, and nobody else', async () => {
    const { cache } = start({ neverEnds: true })
    cache.behave('bad', { fails: true })
    cache.behave('none', { missing: true })
    const bad = [harness.run({ on: 'bad' }), harness.run({ on: 'bad' })]
    const none = harness.run({ on: 'none' })
    const good = harness.run({ on: 'good' })
    for (const run of bad) expect(await run.end).toMatchObject({ code: 'adapter_invalid', message: 'adapter bad is damaged' })
    expect(await none.end).toMatchObject({ code: 'adapter_not_found' })
    expect(none.events).toHaveLength(1)
    expect(await good.end).toMatchObject({ type: 'done' })
  })

  it('of a copy into a slot end who waits for it, and leave the slot usable', async () => {
    const { engine } = start({ slots: 1, neverEnds: true })
    engine.failNextLoad(new ServingError('adapter_unavailable', 'the device has no memory left'))
    expect(await harness.run({ on: 'a' }).end).toMatchObject({ code: 'adapter_unavailable' })
    expect(await harness.run({ on: 'a' }).end).toMatchObject({ type: 'done' })
  })

  it('of a step end its sequences and leave those that wait', async () => {
    const { engine } = start({ sequences: 2, neverEnds: true })
    engine.holdSteps()
    engine.failNextStep(new Error('out of memory at 0x7f'))
    const hit = [harness.run({ on: 'a' }), harness.run()]
    await engine.stepBegun(1)
    await harness.turns()
    const waiting = harness.run()
    engine.releaseSteps()
    expect(await hit[1]?.end).toEqual({ type: 'error', code: 'internal', message: 'internal error' })
    expect(await hit[0]?.end).toMatchObject({ type: 'done' })
    expect(await waiting.end).toMatchObject({ type: 'done' })
    expect(harness.fatal).toEqual([])
  })

  it('of three steps in a row end the process', async () => {
    const { engine } = start()
    for (let index = 0; index < 3; index++) engine.failNextStep(new Error(`failure ${index}`))
    for (let index = 0; index < 3; index++) expect(await harness.run().end).toMatchObject({ code: 'internal' })
    await harness.turns()
    expect(harness.fatal).toMatchObject([{ message: 'failure 2' }])
    expect(harness.service.health()).toMatchObject({ status: 'failed' })
    expect(await harness.run().end).toMatchObject({ code: 'draining' })
  })

  it('W06 of an engine that is broken for good end the process at the first, and every stream with an error', async () => {
    const { engine } = start({ neverEnds: true })
    engine.failNextStep(new EngineBroken("the GPU's context is lost: a test"))
    expect(await harness.run().end).toMatchObject({ code: 'internal' })
    await harness.turns()
    expect(harness.fatal).toMatchObject([{ message: "the GPU's context is lost: a test" }])
    expect(harness.service.health()).toMatchObject({ status: 'failed' })
  })

  it('W06 of a copy that finds the engine broken for good end the process too', async () => {
    const { engine } = start()
    engine.failNextLoad(new EngineBroken('lost'))
    expect(await harness.run({ on: 'a' }).end).toMatchObject({ code: 'internal' })
    await harness.turns()
    expect(harness.fatal).toMatchObject([{ message: 'lost' }])
  })

  it('W05 of a step for which the device has no memory end its sequences as overload, and the next is computed', async () => {
    const { engine } = start()
    engine.failNextStep(new ServingError('overloaded', "the GPU's memory is full: a test"))
    expect(await harness.run().end).toMatchObject({ code: 'overloaded' })
    expect(await harness.run().end).toMatchObject({ type: 'done' })
    expect(harness.fatal).toEqual([])
  })

  it('of our own invariants end the process, and every stream with an error', async () => {
    const { engine } = start({ neverEnds: true })
    engine.holdSteps()
    const runs = [harness.run({ on: 'a' }), harness.run()]
    await engine.stepBegun(1)
    const original = engine.step.bind(engine)
    engine.step = async (step) => (await original(step)).slice(1)
    engine.releaseSteps()
    for (const run of runs) expect(await run.end).toMatchObject({ code: 'internal' })
    expect(String(harness.fatal[0])).toMatch(/the engine answered 0 of 1 wanted rows/)
    engine.release(1 as never)
    engine.release(2 as never)
  })

  it('of a distribution without finite numbers end that sequence alone', async () => {
    const { engine } = start({ neverEnds: true })
    const original = engine.step.bind(engine)
    engine.step = async (step) =>
      (await original(step)).map((output) =>
        step.rows[output.row]?.sequence === 1 ? { ...output, topLogprobs: [Number.NaN] } : output,
      )
    const broken = harness.run()
    const whole = harness.run()
    expect(await broken.end).toMatchObject({ code: 'internal', message: expect.stringMatching(/no finite probabilities/) })
    expect(await whole.end).toMatchObject({ type: 'done' })
  })

  it('of a prompt without finite numbers end it before its details, which no reader could parse', async () => {
    const { engine } = start({ neverEnds: true })
    const original = engine.step.bind(engine)
    engine.step = async (step) =>
      (await original(step)).map((output) => ({ ...output, logprobs: output.logprobs.map(() => Number.NaN) }))
    const run = harness.run({ prefillDetails: true })
    expect(await run.end).toMatchObject({ code: 'internal', message: expect.stringMatching(/no finite probabilities/) })
    expect(run.events.map(({ type }) => type)).toEqual(['accepted', 'error'])
  })
})

describe('details', () => {
  it('of the prompt come once, before the first token, over all its chunks', async () => {
    start({ chunkTokens: 3, neverEnds: true })
    const run = harness.run({ inputs: 'abcdefgh', prefillDetails: true, maxNewTokens: 2 })
    await run.end
    expect(run.events.map(({ type }) => type)).toEqual(['accepted', 'prefill', 'token', 'token', 'done'])
    const { tokens } = run.events[1] as Extract<(typeof run.events)[number], { type: 'prefill' }>
    expect(tokens.map(({ id }) => id)).toEqual(idsOf('abcdefgh'))
    expect(tokens.map(({ text }) => text).join('')).toBe('abcdefgh')
    expect(tokens[0]).not.toHaveProperty('logprob')
    const { fakeLogprobs } = await import('../support/fake-engine.ts')
    const expected = tokens
      .slice(1)
      .map(({ id }, index) => fakeLogprobs(idsOf('abcdefgh').slice(0, index + 1), undefined, true)[id])
    expect(tokens.slice(1).map(({ logprob }) => logprob)).toEqual(expected)
  })

  it('are the most likely alternatives where asked for, the chosen one first when greedy', async () => {
    start({ neverEnds: true })
    const run = harness.run({ alternatives: 3, maxNewTokens: 2 })
    await run.end
    for (const event of run.events) {
      if (event.type !== 'token') continue
      expect(event.alternatives).toHaveLength(3)
      expect(event.alternatives?.[0]).toEqual({ id: event.id, text: event.text, logprob: event.logprob, special: event.special })
    }
  })
})

describe('draining and closing', () => {
  it('drain lets running and waiting runs finish and refuses new ones', async () => {
    const { service, cache } = start({ sequences: 1, neverEnds: true })
    cache.behave('slow', { resolveHeld: true })
    const runs = [harness.run(), harness.run(), harness.run({ on: 'slow' })]
    await harness.turns(2)
    let isDrained = false
    const drained = service.drain().then(() => {
      isDrained = true
    })
    expect(service.health()).toMatchObject({ status: 'draining' })
    expect(await harness.run().end).toMatchObject({ code: 'draining' })
    await Promise.all(runs.slice(0, 2).map(({ end }) => end))
    await harness.turns()
    expect(isDrained).toBe(false)
    cache.letGo('slow')
    await drained
    for (const run of runs) expect(await run.end).toMatchObject({ type: 'done' })
  })

  it('drain of an idle worker resolves', async () => {
    await start().service.drain()
  })

  it('drain of a worker that is closed, or has broken down, resolves', async () => {
    const { loop, service, engine } = start()
    await loop.close()
    await service.drain()
    start()
    for (let index = 0; index < 3; index++) harness.engine.failNextStep(new Error(`failure ${index}`))
    for (let index = 0; index < 3; index++) await harness.run().end
    await harness.turns()
    expect(harness.fatal).toHaveLength(1)
    await harness.service.drain()
    expect(engine.held).toEqual([])
  })

  it('close ends everything after the step in progress', async () => {
    const { engine, loop } = start({ sequences: 1, neverEnds: true })
    engine.holdSteps()
    const runs = [harness.run({ on: 'a', maxNewTokens: 100 }), harness.run({ maxNewTokens: 100 }), harness.run({ on: 'b' })]
    await engine.stepBegun(1)
    const closed = loop.close()
    await harness.turns()
    expect(engine.isInStep).toBe(true)
    engine.releaseSteps()
    await closed
    for (const run of runs) expect(await run.end).toMatchObject({ code: 'draining' })
    expect(await harness.run({ on: 'a' }).end).toMatchObject({ code: 'draining' })
  })

  it('tells how long the step in progress has been running, and is not healthy when that is too long', async () => {
    const { engine, loop, clock, service } = start()
    engine.holdSteps()
    const run = harness.run({ maxNewTokens: 1 })
    await engine.stepBegun(1)
    clock.advance(19_000)
    expect(loop.stepAgeMs).toBe(19_000)
    expect(service.health()).toMatchObject({ status: 'serving' })
    clock.advance(2_000)
    expect(service.health()).toMatchObject({ status: 'stalled' })
    engine.releaseSteps()
    await run.end
    expect(service.health()).toMatchObject({ status: 'serving' })
    expect(loop.stepAgeMs).toBe(0)
  })
})

describe('what a run is refused for', () => {
  it('is told in LoRAX words for lengths, with truncation before', async () => {
    start({ totalTokens: 20, inputTokens: 15 })
    const message = async (parts: Parameters<BatchHarness['run']>[0]) => {
      const end = await harness.run(parts).end
      return end.type === 'error' ? `${end.code}: ${end.message}` : end.finishReason
    }
    expect(await message({ inputs: 'x'.repeat(10), maxNewTokens: 10 })).toBe('length')
    expect(await message({ inputs: 'x'.repeat(10), maxNewTokens: 11 })).toBe(
      'invalid_parameters: `inputs` tokens + `max_new_tokens` must be <= 20. Given: 10 `inputs` tokens and 11 `max_new_tokens`',
    )
    expect(await message({ inputs: 'x'.repeat(16), maxNewTokens: 1 })).toBe(
      'invalid_parameters: `inputs` must have less than 15 tokens. Given: 16',
    )
    expect(await message({ inputs: 'x'.repeat(15), maxNewTokens: 1 })).toBe('length')
    expect(await message({ inputs: 'x'.repeat(500), truncate: 4, maxNewTokens: 1 })).toBe('length')
  })

  it('keeps the last tokens when truncating, and fills the total when no length is given', async () => {
    start({ totalTokens: 20, neverEnds: true })
    const { maxNewTokens: _, ...open } = { maxNewTokens: 0, inputs: 'abcdefgh', truncate: 3 }
    const run = harness.run({ ...open, maxNewTokens: undefined as never })
    expect(await run.end).toMatchObject({ promptTokens: 3, generatedTokens: 17 })
    expect(run.tokens).toEqual(referenceTokens(idsOf('fgh'), 17, { neverEnds: true }))
  })

  it('is that the queue is full', async () => {
    const { engine, service } = start({ sequences: 1, waitingLimit: 2, neverEnds: true })
    engine.holdSteps()
    const runs = [harness.run()]
    await engine.stepBegun(1)
    runs.push(harness.run(), harness.run({ on: 'a' }))
    expect(service.health()).toMatchObject({ status: 'overloaded' })
    expect(await harness.run().end).toMatchObject({ code: 'overloaded' })
    engine.releaseSteps()
    for (const run of runs) expect(await run.end).toMatchObject({ type: 'done' })
  })
})
