import type { RunEvent, SamplingParameters } from '@quiver/protocol'
import { describe, expect, it } from 'vitest'
import { Candidates } from '../../packages/worker/src/sampling/candidates.ts'
import { createSampler } from '../../packages/worker/src/sampling/sampler.ts'
import type { Speculation } from '../../packages/worker/src/step/speculation.ts'
import { BatchHarness, type HarnessOptions, type RunParts } from '../support/batch-harness.ts'
import { fakeEosId, fakeVocabSize } from '../support/fake-engine.ts'
import { randomFrom, randomSeed } from '../support/random-seed.ts'

/** Every token says which one comes next: texts soon go round in circles, so that drafts often come true, but not at first. */
const repetitive = { memory: 1, neverEnds: true, chunkTokens: 16, totalTokens: 200, sequences: 6 }
const samplingDeps = { drawSeed: () => 5n, candidates: new Candidates(fakeVocabSize) }

function harnessWith(speculation: Speculation, options: HarnessOptions = {}): BatchHarness {
  return new BatchHarness({
    ...repetitive,
    speculation,
    createSampler: (parameters, promptIds) => createSampler(parameters, promptIds, samplingDeps),
    ...options,
  })
}

/** What the client sees, but for what tells how it was computed. */
const seen = (events: readonly RunEvent[]) =>
  events.map((event) => {
    if (event.type === 'token') return { ...event, skipped: undefined }
    return event.type === 'done' ? { ...event, skippedTokens: undefined, inferenceMs: 0, firstTokenMs: 0, queueMs: 0 } : event
  })

async function play(harness: BatchHarness, requests: readonly (RunParts & { readonly on?: string })[]) {
  const runs = requests.map((request) => harness.run(request))
  await Promise.all(runs.map(({ end }) => end))
  await harness.loop.close()
  expect(harness.engine.violations).toEqual([])
  expect(harness.fatal).toEqual([])
  expect(harness.engine.held).toEqual([])
  return { events: runs.map(({ events }) => events), counters: harness.loop.state() }
}

const sampled = (parameters: Partial<SamplingParameters>): Partial<RunParts> => ({ sampling: { sample: true, ...parameters } })
const requests: readonly (readonly [string, RunParts])[] = [
  ['greedy', {}],
  ['sampled, with a seed', sampled({ seed: '42', temperature: 0.2 })],
  ['sampled from the best of them', sampled({ seed: '7', topK: 3, topP: 0.9, typicalP: 0.95, temperature: 0.3 })],
  ['greedy with a repetition penalty', { sampling: { sample: false, repetitionPenalty: 1.2 } }],
  ['sampled with penalties', sampled({ seed: '9', temperature: 0.2, frequencyPenalty: 0.2, presencePenalty: 0.1 })],
  ['greedy with a bias', { sampling: { sample: false, logitBias: { 17: 3 } } }],
  ['watermarked', sampled({ seed: '11', temperature: 0.2, watermark: true })],
  ['with alternatives and the details of its prompt', { alternatives: 3, prefillDetails: true }],
]

describe('speculation', () => {
  it.each(requests)('gives %s the very events that it has without, in fewer steps', async (_title, request) => {
    const parts = { inputs: 'abcabcabcabc', maxNewTokens: 90, ...request }
    const without = await play(harnessWith(0), [parts])
    const with4 = await play(harnessWith(4), [parts])
    expect(with4.events.map(seen)).toEqual(without.events.map(seen))
    const { drafted, accepted, steps, decodeRows } = with4.counters
    expect(drafted).toBeGreaterThan(0)
    expect(accepted).toBeGreaterThan(0)
    expect(steps).toBe(without.counters.steps - accepted)
    expect(decodeRows).toBe(without.counters.decodeRows)
    expect(without.counters).toMatchObject({ drafted: 0, accepted: 0 })
  })

  it('marks the tokens that took no step, and counts them', async () => {
    const { events, counters } = await play(harnessWith(4), [{ inputs: 'abab', maxNewTokens: 60 }])
    const marked = events[0]?.filter((event) => event.type === 'token' && event.skipped === true) ?? []
    expect(marked.length).toBe(counters.accepted)
    expect(events[0]?.at(-1)).toMatchObject({ type: 'done', skippedTokens: counters.accepted, generatedTokens: 60 })
    // The prompt's own step gives the first token, which nobody can have guessed.
    expect(events[0]?.find(({ type }) => type === 'token')).not.toHaveProperty('skipped')
  })

  it('ends a text within a draft where it would have ended: at its length, at a stop and at its end', async () => {
    const circle = (await play(harnessWith(0), [{ inputs: 'abc', maxNewTokens: 80 }])).events[0] ?? []
    const text = circle.flatMap((event) => (event.type === 'token' ? [event.text] : [])).join('')
    for (let maxNewTokens = 20; maxNewTokens < 40; maxNewTokens++) {
      const stop = [text.slice(maxNewTokens, maxNewTokens + 3)]
      for (const parts of [{ maxNewTokens }, { maxNewTokens: 80, stop }]) {
        const [without, with8] = await Promise.all([0, 8].map((count) => play(harnessWith(count), [{ inputs: 'abc', ...parts }])))
        expect(with8?.events.map(seen)).toEqual(without?.events.map(seen))
      }
    }
  })

  it('ends a text at its end token, with or without drafts around it', async () => {
    let ended = 0
    for (const inputs of ['a', 'bb', 'abab', 'xyxyxy', 'hello', 'qrs', 'tuv', 'mnmnmn', 'zzz', 'oooo']) {
      const parts = { inputs, maxNewTokens: 60, ignoreEos: false, ...sampled({ seed: '3', temperature: 1.1 }) }
      const ends = { neverEnds: false }
      const without = await play(harnessWith(0, ends), [parts])
      const with8 = await play(harnessWith(8, ends), [parts])
      expect(with8.events.map(seen)).toEqual(without.events.map(seen))
      if (without.events[0]?.some((event) => event.type === 'token' && event.id === fakeEosId)) ended += 1
    }
    expect(ended).toBeGreaterThan(0)
  })

  it('tells a grammar every token once, and none that did not come', async () => {
    const pattern = Array.from({ length: 20 }, () => [[5, 6], [7], [8, 9]]).flat()
    const accepted: Record<string, number[]> = { without: [], with: [] }
    const play3 = (name: 'without' | 'with', speculation: Speculation) =>
      play(
        harnessWith(speculation, {
          openConstraint: async () => ({
            mask: () => {
              const mask = new Int32Array(fakeVocabSize / 32)
              const turn = accepted[name]?.length ?? 0
              for (const id of pattern[turn] ?? [fakeEosId]) mask[id >> 5] = (mask[id >> 5] ?? 0) | (1 << (id & 31))
              return mask
            },
            accept: (id) => accepted[name]?.push(id),
            close: () => {},
          }),
        }),
        [{ inputs: 'q', maxNewTokens: 100, grammar: { kind: 'regex', pattern: '' } }],
      )
    const without = await play3('without', 0)
    const with4 = await play3('with', 4)
    expect(with4.events.map(seen)).toEqual(without.events.map(seen))
    expect(accepted.with).toEqual(accepted.without)
    expect(with4.counters.accepted).toBeGreaterThan(10)
  })

  it('guesses nothing for embeddings', async () => {
    const parts = { inputs: 'abababab', goal: 'embedding' } as const
    const { counters } = await play(harnessWith(8), [parts, parts])
    expect(counters).toMatchObject({ drafted: 0, accepted: 0 })
  })

  it('never gives the engine more rows of a sequence than it takes', async () => {
    // The fake engine holds the loop to its capacity: see `violations`.
    const { counters } = await play(harnessWith(8, { chunkTokens: 3 }), [{ inputs: 'abab', maxNewTokens: 60 }])
    expect(counters.accepted).toBeGreaterThan(0)
    const none = await play(harnessWith(8, { chunkTokens: 1 }), [{ inputs: 'abab', maxNewTokens: 60 }])
    expect(none.counters.drafted).toBe(0)
  })

  const seed = randomSeed('speculation')
  it(`gives a crowd with adapters, of every kind at once, the events that they have without (SEED=${seed})`, async () => {
    const random = randomFrom(seed)
    const below = (limit: number) => Math.floor(random() * limit)
    const crowd = Array.from({ length: 60 }, (_, index) => ({
      inputs: Array.from({ length: 1 + below(20) }, () => 'abcd'[below(4)]).join(''),
      maxNewTokens: 1 + below(60),
      ...requests[index % requests.length]?.[1],
      ...(index % 3 === 0 ? {} : { on: `adapter-${index % 5}` }),
    }))
    const without = await play(harnessWith(0), crowd)
    const stepMs = () => 1
    for (const speculation of [1, 4, 8, 'auto'] as const) {
      const with_ = await play(harnessWith(speculation, { stepMs }), crowd)
      expect(with_.events.map(seen)).toEqual(without.events.map(seen))
      expect(with_.counters.accepted).toBeGreaterThan(0)
    }
  })
})

describe('automatic speculation', () => {
  const run = { inputs: 'abcabc', maxNewTokens: 100 }

  it('guesses where rows are cheap, and in as many fewer steps', async () => {
    const { counters } = await play(harnessWith('auto', { stepMs: ({ rows }) => 4 + rows.length * 0.5 }), [run])
    expect(counters.accepted).toBeGreaterThan(50)
  })

  it('stops where it finds that rows cost as much as steps', async () => {
    const { counters } = await play(harnessWith('auto', { stepMs: ({ rows }) => rows.length * 4 }), [run])
    expect(counters.drafted).toBeLessThan(20)
  })

  it('guesses nothing on a clock that tells no time', async () => {
    const { counters } = await play(harnessWith('auto'), [run])
    expect(counters.drafted).toBe(0)
  })

  it('guesses for one that decodes alone, and not for several, on an engine that would run each by itself', async () => {
    const stepMs = () => 4
    const alone = await play(harnessWith('auto', { stepMs, runsTogether: false }), [run])
    expect(alone.counters.accepted).toBeGreaterThan(50)
    const both = await play(harnessWith('auto', { stepMs, runsTogether: false }), [run, { ...run, inputs: 'bcabca' }])
    expect(both.counters.accepted).toBeLessThan(10)
    const together = await play(harnessWith('auto', { stepMs }), [run, { ...run, inputs: 'bcabca' }])
    expect(together.counters.accepted).toBeGreaterThan(100)
  })
})
