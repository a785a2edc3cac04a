/** What a good answer holds, byte by byte where clients depend on it: bodies, events and headers. */
import { expect } from 'vitest'
import { goldenCases } from '../support/golden.ts'
import { type Check, type Curl, dataOf } from './check.ts'

const counting = '1, 2, 3, 4,'
const times = [
  ...['x-compute-time', 'x-total-time', 'x-validation-time', 'x-queue-time', 'x-inference-time', 'x-time-per-token'],
  ...['x-time-to-first-token', 'x-time-per-output-token'],
]
const shout = goldenCases.find(({ adapter }) => adapter === 'shout')

interface Details {
  readonly seed: number | null
  readonly tokens: readonly { readonly id: number; readonly logprob: number }[]
}

export function answerChecks(curl: Curl): readonly Check[] {
  const check = (name: string, run: Check['run']): Check => ({ name: `curl: ${name}`, run })
  const generate = (parameters: object, inputs = counting) => curl('/generate', { body: { inputs, parameters } })
  const streamed = async (parameters: object, inputs = counting) =>
    await curl('/generate_stream', { body: { inputs, parameters } })
  return [
    check('without details there is only the text', async () => {
      expect((await generate({ max_new_tokens: 2 })).text).toBe('{"generated_text":" 5"}')
    }),
    check('details have the fields of LoRAX in its order', async () => {
      const { json } = await generate({ max_new_tokens: 2, details: true })
      const { details } = json as { details: Record<string, unknown> & { tokens: object[] } }
      const fields = ['finish_reason', 'prompt_tokens', 'generated_tokens', 'skipped_tokens', 'seed', 'prefill', 'tokens']
      expect(Object.keys(details)).toEqual(fields)
      expect(Object.keys(details.tokens[0] ?? {})).toEqual(['id', 'text', 'logprob', 'special', 'skipped'])
      expect(details).toMatchObject({ skipped_tokens: 0, seed: null, prefill: [] })
    }),
    check('decoder_input_details implies details, one entry for each token of the prompt', async () => {
      const { json } = await generate({ max_new_tokens: 1, decoder_input_details: true })
      const { details } = json as { details: { prompt_tokens: number; prefill: { logprob: number | null }[] } }
      expect(details.prefill).toHaveLength(details.prompt_tokens)
      expect(details.prefill[0]?.logprob).toBeNull()
    }),
    check('alternative_tokens only with return_k_alternatives, each with id, text and logprob', async () => {
      const { json } = await generate({ max_new_tokens: 1, details: true, return_k_alternatives: 3 })
      const { details } = json as { details: { tokens: { alternative_tokens: object[] }[] } }
      expect(details.tokens[0]?.alternative_tokens.map((one) => Object.keys(one))).toEqual(
        Array(3).fill(['id', 'text', 'logprob']),
      )
    }),
    check('special tokens are in the tokens and not in the text', async () => {
      const { json } = await generate({ max_new_tokens: 40, details: true, adapter_id: 'shout' }, shout?.prompt)
      const { generated_text, details } = json as { generated_text: string; details: { tokens: { special: boolean }[] } }
      expect([generated_text, details.tokens.at(-1)?.special]).toEqual([shout?.text, true])
    }),
    check('a seed of 2^64-1 comes back digit by digit', async () => {
      const { text } = await curl('/generate', {
        body: `{"inputs":"${counting}","parameters":{"do_sample":true,"seed":18446744073709551615,"max_new_tokens":2,"details":true}}`,
      })
      expect(text).toContain('"seed":18446744073709551615,')
    }),
    check('a seed between 2^53 and 2^64 is not rounded', async () => {
      const text = async (seed: string) =>
        (
          await curl('/generate', {
            body: `{"inputs":"Once","parameters":{"do_sample":true,"seed":${seed},"max_new_tokens":12}}`,
          })
        ).text
      const [one, next] = await Promise.all(['9007199254740993', '9007199254740992'].map(text))
      expect(one).not.toBe(next)
    }),
    check('a seed that is not a number of 64 bits is 422', async () => {
      for (const seed of ['-1', '1.5', '18446744073709551616', '1e30', '"1"']) {
        const { status, text } = await curl('/generate', { body: `{"inputs":"Hi","parameters":{"seed":${seed}}}` })
        expect([seed, status, text]).toEqual([seed, 422, expect.stringContaining('`seed` must')])
      }
    }),
    check('best_of_sequences have the other answer, and the first is the likelier', async () => {
      const { json } = await generate({ best_of: 2, do_sample: true, details: true, max_new_tokens: 4 })
      const { details } = json as { details: Details & { best_of_sequences: (Details & { generated_text: string })[] } }
      const [other] = details.best_of_sequences
      const fields = ['generated_text', 'finish_reason', 'generated_tokens', 'seed', 'prefill', 'tokens']
      expect(Object.keys(other ?? {})).toEqual(fields)
      const mean = ({ tokens }: Details) => tokens.reduce((sum, { logprob }) => sum + logprob, 0) / tokens.length
      expect(mean(details)).toBeGreaterThanOrEqual(mean(other ?? details))
    }),
    check('best_of without details shows only the text', async () => {
      const { json } = await generate({ best_of: 2, do_sample: true, max_new_tokens: 2 })
      expect(Object.keys(json as object)).toEqual(['generated_text'])
    }),
    check('the headers count tokens and characters and tell all times in whole milliseconds', async () => {
      const { headers } = await generate({ max_new_tokens: 2 }, 'Hï 😀')
      expect(headers).toMatchObject({ 'x-compute-characters': '4', 'x-generated-tokens': '2', 'x-skipped-tokens': '0' })
      expect(Number(headers['x-total-tokens'])).toBe(Number(headers['x-prompt-tokens']) + 2)
      for (const name of times) expect([name, headers[name]]).toEqual([name, expect.stringMatching(/^\d+$/)])
      expect(headers['x-compute-type']).toMatch(/\+optimized$/)
      expect(headers['x-model-id']).toBe('smollm2-135m-instruct')
    }),
    check('the headers name the adapter, its source and its digest', async () => {
      const { headers } = await generate({ adapter_id: 'shout', max_new_tokens: 1 })
      expect(headers).toMatchObject({ 'x-adapter-id': 'shout', 'x-adapter-source': 'store' })
      expect(headers['x-adapter-digest']).toMatch(/^[0-9a-f]{64}$/)
      expect((await generate({ max_new_tokens: 1 })).headers['x-adapter-id']).toBeUndefined()
    }),
    check('the headers of a merge join its adapters and name its own digest', async () => {
      const merged_adapters = { ids: ['support-json', 'shout'], weights: [1, 0] }
      const { headers } = await generate({ merged_adapters, max_new_tokens: 1 })
      expect(headers).toMatchObject({ 'x-adapter-id': 'support-json,shout', 'x-adapter-source': 'store' })
      expect(headers['x-adapter-digest']).toMatch(/^[0-9a-f]{64}$/)
    }),
    check('merge strategies and signs are read without regard to case', async () => {
      const merged_adapters = { ids: ['shout'], weights: [1], merge_strategy: 'TIES', density: 1, majority_sign_method: 'Total' }
      const { json } = await generate({ merged_adapters, max_new_tokens: shout?.token_ids.length }, shout?.prompt)
      expect(json).toEqual({ generated_text: shout?.text })
    }),
    check('the base model among merged adapters is 424', async () => {
      const { status, json } = await generate({ merged_adapters: { ids: ['__base_model__'], weights: [1] } })
      const error = 'Request failed during generation: Server error: Base model adapter cannot be merged.'
      expect([status, json]).toEqual([424, { error, error_type: 'generation' }])
    }),
    check('more or fewer weights than adapters are 422', async () => {
      for (const weights of [[], [1, 1]]) {
        const { status, text } = await generate({ merged_adapters: { ids: ['shout'], weights } })
        expect([status, text]).toEqual([
          422,
          expect.stringContaining('number of adapter IDs must match number of adapter weights'),
        ])
      }
    }),
    check('an event is data and JSON and a blank line, with the fields of LoRAX', async () => {
      const { text } = await streamed({ max_new_tokens: 2 })
      expect(text.split('\n\n').map((block) => block.slice(0, 14))).toEqual(['data:{"token":', 'data:{"token":', ''])
      const [first, last] = dataOf(text).map((one) => JSON.parse(one))
      expect(Object.keys(first)).toEqual(['token', 'generated_text', 'details'])
      expect([first.generated_text, first.details, last.generated_text, last.details]).toEqual([null, null, ' 5', null])
    }),
    check('the last event has four details, and only when they are asked for', async () => {
      const { text } = await streamed({ max_new_tokens: 2, details: true })
      const last = JSON.parse(dataOf(text).at(-1) ?? '')
      expect(Object.keys(last.details)).toEqual(['finish_reason', 'prompt_tokens', 'generated_tokens', 'seed'])
    }),
    check('a stream of LoRAX has no [DONE], no event names and no ids', async () => {
      for (const [path, body] of [
        ['/generate_stream', { inputs: counting, parameters: { max_new_tokens: 2 } }],
        ['/', { inputs: counting, parameters: { max_new_tokens: 2 }, stream: true }],
      ] as const) {
        const { text } = await curl(path, { body })
        expect(text).not.toMatch(/\[DONE\]|^event:|^id:/m)
      }
    }),
    check('a stream has the headers of LoRAX that are known at its beginning', async () => {
      const { headers } = await streamed({ max_new_tokens: 1, adapter_id: 'shout' })
      expect(headers).toMatchObject({
        ...{ 'content-type': 'text/event-stream', 'x-accel-buffering': 'no', 'x-compute-characters': '11' },
        ...{ 'x-model-id': 'smollm2-135m-instruct', 'x-adapter-id': 'shout', 'x-adapter-source': 'store' },
      })
      expect(headers['x-adapter-digest']).toMatch(/^[0-9a-f]{64}$/)
      expect(headers['x-total-time']).toBeUndefined()
    }),
    check('an error is the last event of its stream, flat, and nothing follows', async () => {
      const { status, text } = await streamed({ adapter_id: 'nobody' })
      expect(status).toBe(200)
      expect(text).toMatch(
        /^data:\{"error":"Request failed during generation: Server error: [^\n]*","error_type":"generation"\}\n\n$/,
      )
    }),
    check('characters of several tokens come whole in a stream', async () => {
      const grammar = { type: 'regex', value: '😀日本' }
      const { text } = await streamed({ max_new_tokens: 20, grammar })
      const events = dataOf(text).map((one) => JSON.parse(one))
      expect(events.at(-1).generated_text).toBe('😀日本')
      expect(
        events
          .filter(({ token }) => !token.special)
          .map(({ token }) => token.text)
          .join(''),
      ).toBe('😀日本')
    }),
    check('greedy text is the same alone and beside every other adapter', async () => {
      const asked = goldenCases.filter((one, at) => goldenCases.findIndex(({ adapter }) => adapter === one.adapter) === at)
      const texts = await Promise.all(
        asked.map(async ({ adapter, prompt, token_ids }) => {
          const { json } = await generate({ adapter_id: adapter, max_new_tokens: token_ids.length }, prompt)
          return (json as { generated_text: string }).generated_text
        }),
      )
      expect(texts).toEqual(asked.map(({ text }) => text))
    }),
  ]
}
