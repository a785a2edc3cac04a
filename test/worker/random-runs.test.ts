import { ServingError } from '@quiver/protocol'
import { describe, expect, it } from 'vitest'
import { BatchHarness, type HarnessRun } from '../support/batch-harness.ts'
import { fakeDigest } from '../support/fake-adapter-cache.ts'
import { fakeMean, referenceTokens } from '../support/fake-engine.ts'
import { fakeTokenizer } from '../support/fake-tokenizer.ts'
import { randomFrom, randomSeed } from '../support/random-seed.ts'

const goodAdapters = Array.from({ length: 10 }, (_, index) => `good-${index}`)
const heldAdapters = ['held-0', 'held-1']

/** 1,000 requests over 12 usable adapters and 3 slots, with everything going wrong that can, at random. */
class RandomRuns {
  readonly harness = new BatchHarness({ sequences: 6, slots: 3, totalTokens: 96, chunkTokens: 16 })
  readonly runs: {
    readonly run: HarnessRun
    readonly inputs: string
    readonly on: string | undefined
    readonly maxNewTokens: number
    readonly embeds: boolean
  }[] = []
  readonly #random: () => number
  #lastFailedStep = 0

  constructor(seed: number) {
    this.#random = randomFrom(seed)
    const { cache } = this.harness
    cache.behave('bad', { fails: true })
    cache.behave('missing', { missing: true })
  }

  async play(count: number): Promise<void> {
    const { harness } = this
    while (this.runs.length < count) {
      for (let arrivals = this.#below(4); arrivals > 0; arrivals--) this.#arrive()
      if (this.#chance(0.3)) this.#pick(this.runs)?.run.cancel()
      if (this.#chance(0.05))
        harness.cache.behave(this.#pick(heldAdapters) ?? '', this.#chance(0.5) ? { held: true } : { resolveHeld: true })
      if (this.#chance(0.1)) harness.cache.letGo(this.#pick(heldAdapters) ?? '')
      if (this.#chance(0.02)) harness.engine.failNextLoad(new ServingError('adapter_unavailable', 'no memory'))
      // Never three in a row: that would rightly end the process.
      if (this.#chance(0.02) && harness.engine.steps.length > this.#lastFailedStep + 2) {
        this.#lastFailedStep = harness.engine.steps.length
        harness.engine.failNextStep(new Error('the device coughed'))
      }
      if (this.#chance(0.5)) harness.clock.advance(this.#below(20))
      await harness.turns(this.#below(6))
    }
    for (const name of heldAdapters) harness.cache.letGo(name)
    await Promise.all(this.runs.map(({ run }) => run.end))
    await harness.turns()
  }

  #arrive(): void {
    const inputs = Array.from({ length: 1 + this.#below(this.#chance(0.1) ? 110 : 12) }, () => 'abcdefgh'[this.#below(8)]).join(
      '',
    )
    const on = this.#adapter()
    const maxNewTokens = 1 + this.#below(20)
    const embeds = this.#chance(0.2)
    const run = this.harness.run({
      ...(embeds ? { goal: 'embedding' as const } : {}),
      inputs,
      maxNewTokens,
      ignoreEos: false,
      alternatives: this.#below(3),
      prefillDetails: this.#chance(0.2),
      deadlineMs: this.#chance(0.2) ? this.#below(100) : 60_000_000,
      ...(on === undefined ? {} : { on }),
    })
    this.runs.push({ run, inputs, on, maxNewTokens, embeds })
  }

  #adapter(): string | undefined {
    const draw = this.#random()
    if (draw < 0.15) return undefined
    if (draw < 0.2) return 'bad'
    if (draw < 0.23) return 'missing'
    if (draw < 0.3) return this.#pick(heldAdapters)
    // Skewed: the first ones are hot.
    return goodAdapters[Math.floor(this.#random() ** 2 * goodAdapters.length)]
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit)
  }

  #chance(probability: number): boolean {
    return this.#random() < probability
  }

  #pick<T>(from: readonly T[]): T | undefined {
    return from[this.#below(from.length)]
  }
}

describe('1,000 random runs with cancellations, deadlines and failures', () => {
  const seed = randomSeed('random runs')

  it(`each end exactly once, with tokens or the embedding of their own adapter alone, and leave nothing behind (SEED=${seed})`, async () => {
    const world = new RandomRuns(seed)
    const { harness } = world
    await world.play(1_000)
    const codes = new Map<string, number>()
    for (const { run, inputs, on, maxNewTokens, embeds } of world.runs) {
      const terminal = run.events.filter(({ type }) => type === 'done' || type === 'error')
      expect(terminal).toHaveLength(1)
      expect(run.events.at(-1)).toBe(terminal[0])
      const end = terminal[0]
      const code = end?.type === 'error' ? end.code : 'done'
      codes.set(code, (codes.get(code) ?? 0) + 1)
      const digest = on === undefined ? undefined : fakeDigest(on)
      const promptIds = fakeTokenizer().encode(inputs)
      const means = run.events.flatMap((event) => (event.type === 'embedding' ? [event.values] : []))
      const isEmbedded = embeds && end?.type === 'done'
      expect(means).toEqual(isEmbedded ? [Buffer.from(fakeMean(promptIds, digest).buffer).toString('base64')] : [])
      const reference = embeds ? [] : referenceTokens(promptIds, maxNewTokens, { digest })
      expect(run.tokens).toEqual(reference.slice(0, run.tokens.length))
      if (end?.type === 'done') expect(run.tokens).toHaveLength(reference.length)
    }
    // The dice reached every way out.
    for (const code of [
      'done',
      'client_closed',
      'deadline_exceeded',
      'adapter_invalid',
      'adapter_not_found',
      'adapter_unavailable',
      'internal',
      'invalid_parameters',
    ]) {
      expect(codes.get(code) ?? 0, code).toBeGreaterThan(0)
    }
    expect(harness.engine.violations).toEqual([])
    expect(harness.fatal).toEqual([])
    expect(harness.engine.held).toEqual([])
    expect(harness.cache.leaseCount).toBe(0)
    expect(harness.clock.pending).toBe(0)
    expect(harness.loop.state()).toMatchObject({ running: 0, waiting: 0, loading: 0, leases: { adapters: 0, slots: 0 } })
    await harness.loop.close()
  })
})
