import { describe, expect, it, onTestFinished } from 'vitest'
import type { HarnessRun } from '../../../support/batch-harness.ts'
import { fakeEosId, fakeVocabSize } from '../../../support/fake-engine.ts'
import { fakeTokenizer } from '../../../support/fake-tokenizer.ts'
import { RemoteHarness, type RemoteHarnessOptions, remoteName } from '../../../support/remote-harness.ts'
import { RemoteStub, stubLogprob, stubTokens } from '../../../support/remote-stub.ts'
import { temporaryFolder } from '../../../support/temporary-folder.ts'

async function harness(options: Omit<RemoteHarnessOptions, 'folder'> = {}): Promise<RemoteHarness> {
  const opened = await RemoteHarness.start({ folder: await temporaryFolder(), ...options })
  onTestFinished(async () => {
    await opened.close()
    expect(opened.fatal, 'no invariant was broken').toEqual([])
    expect(opened.cache.leaseCount, 'every lease was given back').toBe(0)
  })
  return opened
}

const promptIds = fakeTokenizer().encode('hello')
const expected = (adapter: string | undefined, count: number) =>
  stubTokens(promptIds, adapter === undefined ? undefined : remoteName(adapter), { count, vocabSize: fakeVocabSize })

async function failure(run: HarnessRun) {
  const end = await run.end
  return end.type === 'error' ? end : expect.fail(`the run ended with ${JSON.stringify(end)}`)
}

const kinds = [
  { title: 'vLLM', kind: 'vllm' },
  { title: 'SGLang', kind: 'sglang' },
  { title: 'SGLang that streams new tokens alone', kind: 'sglang', isIncremental: true },
] as const

describe.each(kinds)('runs on $title', ({ title, ...options }) => {
  it('streams the tokens of the base model and of adapters, with their log-probabilities', async () => {
    const { run } = bound(await harness(options))
    const runs = [run(), run({ on: 'a' }), run({ on: 'b' }), run({ on: 'a' })]
    for (const [index, name] of [undefined, 'a', 'b', 'a'].entries()) {
      const end = await runs[index]?.end
      expect(end).toMatchObject({ type: 'done', finishReason: 'length', generatedTokens: 5, promptTokens: 5 })
      expect(runs[index]?.tokens).toEqual(expected(name, 5))
      const first = runs[index]?.events.find((event) => event.type === 'token')
      expect(first).toMatchObject({ logprob: stubLogprob(expected(name, 1)[0] ?? 0), special: false, last: false })
    }
  })

  it('sends what is sampled by under the names of the server, every value said', async () => {
    const { run, stub } = bound(await harness({ ...options, isDeterministic: true }))
    const done = await run({ sampling: { sample: true, temperature: 0.5, topK: 7, seed: '42', logitBias: { 3: 2 } } }).end
    const asked = stub.asked[0] as Record<string, unknown>
    const sampling = (options.kind === 'vllm' ? asked : asked['sampling_params']) as Record<string, unknown>
    expect(sampling).toMatchObject({
      temperature: 0.5,
      top_k: 7,
      top_p: 1,
      min_p: 0,
      repetition_penalty: 1,
      frequency_penalty: 0,
      presence_penalty: 0,
      logit_bias: { 3: 2 },
      [options.kind === 'vllm' ? 'seed' : 'sampling_seed']: 42,
      ignore_eos: true,
      stop_token_ids: [],
    })
    expect(done).toMatchObject({ type: 'done', seed: '42' })
  })

  it('answers the prompt with its log-probabilities, and as many alternatives as asked for', async () => {
    const { run } = bound(await harness(options))
    const { events, end } = run({ prefillDetails: true, alternatives: 3, maxNewTokens: 2 })
    await end
    const prompt = events.find((event) => event.type === 'prefill')
    expect(prompt?.tokens.map(({ id, logprob }) => [id, logprob])).toEqual(
      promptIds.map((id, index) => [id, index === 0 ? undefined : stubLogprob(id)]),
    )
    const token = events.find((event) => event.type === 'token')
    const [id = 0] = expected(undefined, 1)
    expect(token?.alternatives?.map((one) => [one.id, one.logprob])).toEqual(
      [0, 1, 2].map((at) => [(id + at) % fakeVocabSize, stubLogprob(id) - at]),
    )
  })

  it('ends a text at its stop text, and leaves the server then', async () => {
    const { run, stub, until } = bound(await harness(options))
    const text = fakeTokenizer().decode(expected(undefined, 8))
    const done = await run({ stop: [text.slice(2, 4)], maxNewTokens: 50 }).end
    expect(done).toMatchObject({ type: 'done', finishReason: 'stop_sequence', generatedText: text.slice(0, 4) })
    await until(() => stub.open === 0, 'the stream is closed')
    expect(stub.left).toBe(1)
  })

  it('says which tokens end a text', async () => {
    const { run, stub } = bound(await harness(options))
    await run({ ignoreEos: false }).end
    const asked = stub.asked[0] as Record<string, unknown>
    const holder = (options.kind === 'vllm' ? asked : asked['sampling_params']) as Record<string, unknown>
    expect(holder['stop_token_ids']).toEqual([fakeEosId])
  })

  it('closes the stream of a client that leaves', async () => {
    const { run, stub, until } = bound(await harness(options))
    stub.faults = { hangAfter: 2 }
    const left = run({ on: 'a' })
    await until(() => left.tokens.length === 2, 'two tokens have come')
    left.cancel()
    expect(await failure(left)).toMatchObject({ code: 'client_closed' })
    await until(() => stub.open === 0, 'the stream is closed')
    expect(stub.left).toBe(1)
  })

  it('ends a text whose server hangs at its deadline, and says since when it hangs', async () => {
    const { run, stub, until, clock, loop } = bound(await harness(options))
    stub.faults = { hangAfter: 1 }
    const late = run({ deadlineMs: 5_000 })
    await until(() => late.tokens.length === 1, 'a token has come')
    clock.advance(4_000)
    expect(loop.stepAgeMs).toBe(4_000)
    clock.advance(1_000)
    expect(await failure(late)).toMatchObject({ code: 'deadline_exceeded' })
    await until(() => stub.open === 0 && loop.stepAgeMs === 0, 'the stream is closed')
  })

  it.each([
    ['is cut', { cutAfter: 2 }, 2],
    ['says that it failed', { failAfter: 2 }, 2],
    ['ends too early', { endAfter: 2 }, 2],
    ['is cut before it has begun', { cutAfter: 0 }, 0],
  ] as const)('ends with worker_lost a text whose stream %s', async (_, faults, tokens) => {
    const { run, stub } = bound(await harness(options))
    stub.faults = faults
    const cut = run({ maxNewTokens: 6 })
    expect(await failure(cut)).toMatchObject({ code: 'worker_lost' })
    expect(cut.tokens).toEqual(expected(undefined, tokens))
    expect(await run().end).toMatchObject({ type: 'done' })
  })

  it.each([
    [400, 'invalid_parameters'],
    [422, 'invalid_parameters'],
    [401, 'worker_lost'],
    [429, 'overloaded'],
    [503, 'overloaded'],
    [500, 'worker_lost'],
  ] as const)('answers a status %i as %s, with the reason of the server', async (status, code) => {
    const { run, stub } = bound(await harness(options))
    stub.faults = { refuse: { status, message: 'the very reason' } }
    expect(await failure(run())).toMatchObject({ code, message: expect.stringContaining('the very reason') })
  })

  it('loads an adapter again that the server has forgotten, once, for all who ask', async () => {
    const { run, stub } = bound(await harness(options))
    await run({ on: 'a' }).end
    stub.forget()
    const again = [run({ on: 'a' }), run({ on: 'a' }), run({ on: 'a' })]
    for (const { end } of again) expect(await end).toMatchObject({ type: 'done' })
    for (const { tokens } of again) expect(tokens).toEqual(expected('a', 5))
    expect(stub.loads).toEqual([remoteName('a'), remoteName('a')])
  })

  it('sends a text again that was refused before somebody else had the adapter loaded again', async () => {
    const { run, stub, until } = bound(await harness(options))
    await run({ on: 'a' }).end
    stub.forget()
    let asked = 0
    // Whoever asks second hears only of the state after the load.
    stub.beforeList = () => (++asked === 2 ? until(() => stub.loads.length === 2, 'it is loaded again') : Promise.resolve())
    const again = [run({ on: 'a' }), run({ on: 'a' })]
    for (const { end } of again) expect(await end).toMatchObject({ type: 'done' })
    expect(stub.loads).toHaveLength(2)
  })

  it('does not try again what the server refuses although it has the adapter', async () => {
    const { run, stub } = bound(await harness(options))
    await run({ on: 'a' }).end
    stub.faults = { refuse: { status: 400, message: 'no' } }
    expect(await failure(run({ on: 'a' }))).toMatchObject({ code: 'invalid_parameters' })
    expect(stub.asked).toHaveLength(2)
  })

  it('unloads an adapter that makes way, and never one that is in use', async () => {
    const { run, stub, until } = bound(await harness(options))
    stub.faults = { hangAfter: 1 }
    const busy = run({ on: 'a' })
    await until(() => busy.tokens.length === 1, 'a token has come')
    for (const name of ['b', 'c', 'd']) expect(await run({ on: name }).end).toMatchObject({ type: 'done' })
    expect(stub.unloads).toEqual([remoteName('b'), remoteName('c')])
    expect([...stub.adapters.keys()].toSorted()).toEqual([remoteName('a'), remoteName('d')].toSorted())
    busy.cancel()
    await busy.end
  })

  it('ends those who wait for an adapter that the server refuses, and serves it when it takes it', async () => {
    const { run, stub } = bound(await harness(options))
    stub.loadRefusal = 'rank 8 is greater than max_lora_rank 4'
    expect(await failure(run({ on: 'a' }))).toMatchObject({
      code: 'adapter_unavailable',
      message: expect.stringContaining('rank 8 is greater than max_lora_rank 4'),
    })
    stub.loadRefusal = undefined
    expect(await run({ on: 'a' }).end).toMatchObject({ type: 'done' })
  })

  it('refuses by name what the server cannot do', async () => {
    const { run, stub } = bound(await harness(options))
    const refused = [
      [{ sampling: { sample: true, typicalP: 0.5 } }, '`typical_p`'],
      [{ sampling: { sample: true, watermark: true } }, '`watermark`'],
      [{ goal: 'embedding' }, 'an embedding'],
    ] as const
    for (const [parts, name] of refused) {
      const { code, message } = await failure(run(parts))
      expect([code, message.startsWith(name)]).toEqual(['invalid_parameters', true])
    }
    expect(stub.asked).toEqual([])
  })

  it('runs no more texts at once than it may, and drains to the last', async () => {
    const { run, stub, loop, service } = bound(await harness({ ...options, config: { sequences: 2 } }))
    const runs = Array.from({ length: 7 }, () => run({ maxNewTokens: 12 }))
    let most = 0
    const drained = service.drain()
    for (const { end } of runs) {
      most = Math.max(most, stub.open, loop.busyness().running)
      await end
    }
    await drained
    expect(most).toBeLessThanOrEqual(2)
    expect(loop.state()).toMatchObject({ running: 0, waiting: 0, finished: { length: 7 } })
    expect(loop.state()).toMatchObject({ prefillRows: 35, decodeRows: 77 })
  })

  it('ends everything with draining when it is closed', async () => {
    const { run, stub, until, loop } = bound(await harness(options))
    stub.faults = { hangAfter: 1 }
    const running = run()
    await until(() => running.tokens.length === 1, 'a token has come')
    await loop.close()
    expect(await failure(running)).toMatchObject({ code: 'draining' })
    expect(await failure(run())).toMatchObject({ code: 'draining' })
  })
})

describe('a server that is alone in something', () => {
  it('does not follow a redirect', async () => {
    const { run, stub } = bound(await harness())
    stub.faults = { redirectTo: `${stub.url}/elsewhere` }
    expect(await failure(run())).toMatchObject({ code: 'worker_lost' })
    expect(stub.asked).toHaveLength(1)
  })

  it('ends texts with worker_lost while the server is gone, and goes on when it is back without its adapters', async () => {
    const { run, stub } = bound(await harness())
    await run({ on: 'a' }).end
    const { port } = stub
    await stub.stop()
    expect(await failure(run())).toMatchObject({ code: 'worker_lost' })
    expect(await failure(run({ on: 'a' }))).toMatchObject({ code: 'worker_lost' })
    const restarted = await RemoteStub.start({ kind: 'vllm', model: 'fake-model', vocabSize: fakeVocabSize }, port)
    onTestFinished(() => restarted.stop())
    expect(await run({ on: 'a' }).end).toMatchObject({ type: 'done' })
    expect(restarted.loads).toEqual([remoteName('a')])
  })

  it('refuses more alternatives than vLLM gives, and a repetition penalty beyond SGLang', async () => {
    const { run } = bound(await harness())
    expect((await failure(run({ alternatives: 21 }))).message).toContain('more than 20 alternatives')
    const sglang = bound(await harness({ kind: 'sglang' }))
    expect((await failure(sglang.run({ sampling: { sample: false, repetitionPenalty: 2.5 } }))).message).toContain(
      '`repetition_penalty` above 2',
    )
  })

  it('reports no seed where SGLang does not keep to it', async () => {
    const { run } = bound(await harness({ kind: 'sglang' }))
    expect(await run({ sampling: { sample: true, seed: '42' } }).end).not.toHaveProperty('seed')
  })

  it('asks for a form in the words of each server, and lets it end the text', async () => {
    const grammar = { kind: 'json_schema', schema: { type: 'object' } } as const
    const vllm = bound(await harness())
    await vllm.run({ grammar }).end
    expect(vllm.stub.asked[0]).toMatchObject({
      structured_outputs: { json: '{"type":"object"}' },
      ignore_eos: false,
      stop_token_ids: [fakeEosId],
    })
    await vllm.run({ grammar: { kind: 'regex', pattern: 'a+' } }).end
    expect(vllm.stub.asked[1]).toMatchObject({ structured_outputs: { regex: 'a+' } })
    const sglang = bound(await harness({ kind: 'sglang' }))
    await sglang.run({ grammar }).end
    expect(sglang.stub.asked[0]).toMatchObject({ sampling_params: { json_schema: '{"type":"object"}', ignore_eos: false } })
  })
})

/** The parts of a harness, for taking apart. */
function bound(harness: RemoteHarness) {
  const { stub, loop, service, clock, engine } = harness
  return {
    ...{ stub, loop, service, clock, engine },
    run: (...parts: Parameters<RemoteHarness['run']>) => harness.run(...parts),
    until: (...wish: Parameters<RemoteHarness['until']>) => harness.until(...wish),
  }
}
