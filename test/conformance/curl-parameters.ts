/** Every rule of `parameters`: its text, the order of all, and what is accepted though LoRAX's own text says otherwise. */
import { expect } from 'vitest'
import { type Check, type Curl, dataOf } from './check.ts'

type Fields = Readonly<Record<string, unknown>>
const validation = (text: string) => ({ error: `Input validation error: ${text}`, error_type: 'validation' })

/** In the order in which they are made. Each row breaks its own rule, and mends those before it. */
const rules: readonly (readonly [name: string, broken: Fields, text: string, mended: Fields])[] = [
  ['best_of above the limit', { best_of: 3 }, '`best_of` must be > 0 and <= 2. Given: 3', { best_of: 1 }],
  [
    'adapter_id beside merged_adapters',
    { adapter_id: 'shout', merged_adapters: { ids: [] } },
    'at most one of `adapter_id` or `adapters` may be provided',
    { adapter_id: null },
  ],
  [
    'merged_adapters without ids',
    { merged_adapters: { ids: [] } },
    'at least one adapter ID must be provided when setting `adapters`',
    { merged_adapters: { ids: ['shout'] } },
  ],
  [
    'merged_adapters without weights',
    { merged_adapters: { ids: ['shout'] } },
    'number of adapter IDs must match number of adapter weights',
    { merged_adapters: null },
  ],
  ['best_of without sampling', { best_of: 2 }, 'you must use sampling when `best_of` is > 1', { best_of: 1 }],
  ['a negative temperature', { temperature: -0.1 }, '`temperature` must be non-negative', { temperature: 1 }],
  [
    'a repetition_penalty of 0',
    { repetition_penalty: 0 },
    '`repetition_penalty` must be strictly positive',
    { repetition_penalty: 1 },
  ],
  [
    'a frequency_penalty above 2',
    { frequency_penalty: 2.1 },
    '`frequency_penalty` must be >= -2.0 and <= 2.0',
    { frequency_penalty: 2 },
  ],
  [
    'a presence_penalty below -2',
    { presence_penalty: -2.1 },
    '`presence_penalty` must be >= -2.0 and <= 2.0',
    { presence_penalty: -2 },
  ],
  ['a top_p of 0', { top_p: 0 }, '`top_p` must be > 0.0 and < 1.0', { top_p: 1 }],
  ['a typical_p of 1', { typical_p: 1 }, '`typical_p` must be > 0.0 and < 1.0', { typical_p: 0.5 }],
  ['a top_k of 0', { top_k: 0 }, '`top_k` must be strictly positive', { top_k: 1 }],
  [
    'return_k_alternatives of 0',
    { return_k_alternatives: 0 },
    '`return_k_alternatives` must be strictly positive',
    { return_k_alternatives: 1 },
  ],
  ['max_new_tokens of 0', { max_new_tokens: 0 }, '`max_new_tokens` must be strictly positive', { max_new_tokens: 1 }],
  [
    'too many stop texts',
    { stop: Array(17).fill('x') },
    '`stop` supports up to 16 stop sequences. Given: 17',
    { stop: null, best_of: 2, seed: 1 },
  ],
  [
    'a seed with best_of',
    { best_of: 2, do_sample: true, seed: 1 },
    '`seed` must not be set when `best_of` > 1',
    { best_of: 1, inputs: '' },
  ],
  ['empty inputs', { inputs: '' }, '`inputs` cannot be empty', { inputs: 'Hi' }],
  ['truncate of 0', { truncate: 0 }, '`truncate` must be strictly positive and less than 2047. Given: 0', { truncate: 1 }],
]
const alone: readonly (readonly [name: string, broken: Fields, text: string])[] = [
  ['a top_p above 1', { top_p: 1.01 }, '`top_p` must be > 0.0 and < 1.0'],
  ['a negative top_k', { top_k: -1 }, '`top_k` must be strictly positive'],
  ['truncate above the limit', { truncate: 2048 }, '`truncate` must be strictly positive and less than 2047. Given: 2048'],
  ['a max_new_tokens below 0', { max_new_tokens: -1 }, '`max_new_tokens` must be a whole number, not negative'],
  [
    'an unknown merge_strategy',
    { merged_adapters: { ids: ['shout'], weights: [1], merge_strategy: 'magic' } },
    '`merge_strategy` must be one of linear, ties, dare_linear, dare_ties',
  ],
  [
    'an unknown majority_sign_method',
    { merged_adapters: { ids: ['shout'], weights: [1], majority_sign_method: 'x' } },
    '`majority_sign_method` must be one of total, frequency',
  ],
  [
    'an adapter_id that is no header value',
    { adapter_id: 'a\nb' },
    '`adapter_id` must have only printable ASCII characters, without a space at either end, and at most 4096 of them',
  ],
  [
    'response_format and grammar at once',
    { response_format: { type: 'json_object' }, grammar: { type: 'json', value: {} } },
    'at most one of `response_format` or `grammar` may be provided',
  ],
]
const bodyOf = ({ inputs = 'Hi', ...parameters }: Fields) => ({ inputs, parameters })
const names = (text: string) => /`(\w+)`/.exec(text)?.[1] ?? text

export function parameterChecks(curl: Curl): readonly Check[] {
  const check = (name: string, run: Check['run']): Check => ({ name: `curl: ${name}`, run })
  const short = { max_new_tokens: 2 }
  const accepted = (name: string, parameters: Fields, text = ' 5') =>
    check(name, async () => {
      const { status, json } = await curl('/generate', {
        body: { inputs: '1, 2, 3, 4,', parameters: { ...short, ...parameters } },
      })
      expect([status, json]).toMatchObject([200, { generated_text: text }])
    })
  return [
    ...[...rules, ...alone].map(([name, broken, text]) =>
      check(`${name} is 422`, async () => {
        const { status, json } = await curl('/generate', { body: bodyOf(broken) })
        expect([status, json]).toEqual([422, validation(text)])
      }),
    ),
    check('rules are met in the order of LoRAX', async () => {
      let fields: Fields = {}
      // Any parameter of sampling that is given, right or wrong, satisfies this one.
      const met = rules.filter(([name]) => name !== 'best_of without sampling')
      for (const [, broken] of met.toReversed()) fields = { ...fields, ...broken }
      for (const [name, broken, text, mended] of met) {
        fields = { ...fields, ...broken }
        expect([name, (await curl('/generate', { body: bodyOf(fields) })).json]).toEqual([name, validation(text)])
        fields = { ...fields, ...mended }
      }
    }),
    check('a broken rule is one event of a stream, with status 200', async () => {
      for (const [, broken, text] of rules.filter(([name]) => !name.includes('best_of'))) {
        const { status, text: events } = await curl('/generate_stream', { body: bodyOf(broken) })
        expect([status, dataOf(events).map((one) => JSON.parse(one))]).toEqual([200, [validation(text)]])
      }
    }),
    check('best_of in a stream is refused, whatever its value but 1', async () => {
      for (const best_of of [0, 2]) {
        const { text } = await curl('/generate_stream', { body: bodyOf({ best_of, do_sample: true }) })
        expect(JSON.parse(dataOf(text)[0] ?? '')).toEqual(validation('`best_of` != 1 is not supported when streaming tokens'))
      }
    }),
    check('decoder_input_details in a stream is refused', async () => {
      const { text } = await curl('/generate_stream', { body: bodyOf({ decoder_input_details: true }) })
      const expected = validation('`decoder_input_details` == true is not supported when streaming tokens')
      expect(JSON.parse(dataOf(text)[0] ?? '')).toEqual(expected)
    }),
    check('every field of a wrong type is 422 and named', async () => {
      const wrong: Fields = {
        ...{ adapter_id: 1, adapter_source: 1, merged_adapters: [], api_token: 1, best_of: '1', temperature: 'NaN', top_k: 1.5 },
        ...{ repetition_penalty: '1', frequency_penalty: [], presence_penalty: {}, top_p: '1', typical_p: true, do_sample: 1 },
        ...{
          max_new_tokens: 0.5,
          ignore_eos_token: 0,
          return_full_text: 'no',
          stop: 1,
          truncate: -1,
          watermark: 'x',
          details: 1,
        },
        ...{ decoder_input_details: 1, seed: -1, return_k_alternatives: 1.5, response_format: 'json', apply_chat_template: 1 },
        ...{ top_n_tokens: -1, grammar: 1 },
      }
      await Promise.all(
        Object.entries(wrong).map(async ([field, value]) => {
          const { status, json } = await curl('/generate', { body: bodyOf({ [field]: value }) })
          expect([field, status, names((json as { error: string }).error)]).toEqual([field, 422, field])
        }),
      )
    }),
    accepted('best_of 0 passes as 1', { best_of: 0 }),
    accepted('a top_p of 1 is accepted and greedy', { top_p: 1 }),
    accepted('a temperature of 0 is greedy whatever else is set', { temperature: 0, do_sample: true, top_k: 50, seed: 3 }),
    accepted('an empty or null adapter_id is the base model', { adapter_id: '' }),
    accepted('null is accepted in every field', {
      ...{ adapter_id: null, adapter_source: null, merged_adapters: null, api_token: null, best_of: null, temperature: null },
      ...{ repetition_penalty: null, frequency_penalty: null, presence_penalty: null, top_k: null, top_p: null, typical_p: null },
      ...{ do_sample: null, ignore_eos_token: null, return_full_text: null, stop: null, truncate: null, watermark: null },
      ...{ details: null, decoder_input_details: null, seed: null, return_k_alternatives: null, response_format: null },
      ...{ apply_chat_template: null, top_n_tokens: null, grammar: null },
    }),
    accepted('unknown fields are ignored', { surprise: { deep: [1] } }),
    accepted('a stop text may be one string', { stop: ' 5', max_new_tokens: 8 }),
    accepted('a response_format of text is none', { response_format: { type: 'text' } }),
    check('parameters may be null', async () => {
      // Without parameters an answer has no end but its own, so the rule that comes last is broken.
      const { json } = await curl('/generate', { body: { inputs: '', parameters: null, stream: null } })
      expect(json).toEqual(validation('`inputs` cannot be empty'))
    }),
    check('without max_new_tokens there is room up to the limit', async () => {
      const { json } = await curl('/generate', {
        body: { inputs: '1, 2, 3, 4,', parameters: { stop: [' 6'], details: true } },
      })
      expect(json).toMatchObject({ generated_text: ' 5, 6', details: { finish_reason: 'stop_sequence' } })
    }),
    check('a source is read without regard to case', async () => {
      const { json } = await curl('/generate', { body: bodyOf({ adapter_id: 'nobody', adapter_source: 'STORE' }) })
      expect(json).toMatchObject({ error: expect.stringContaining("Adapter 'nobody' is not known here") })
    }),
    check('an unknown source is 424 in the words of LoRAX', async () => {
      const { status, json } = await curl('/generate', { body: bodyOf({ adapter_id: 'shout', adapter_source: 'ftp' }) })
      const error = "Request failed during generation: Server error: Invalid source 'ftp' when downloading adapter 'shout'"
      expect([status, json]).toEqual([424, { error, error_type: 'generation' }])
    }),
    check('an api_token that could be none is refused without being repeated', async () => {
      const { status, text } = await curl('/generate', {
        body: bodyOf({ adapter_id: 'a/b', adapter_source: 'hub', api_token: 'with space' }),
      })
      expect([status, text.includes('with space')]).toEqual([422, false])
    }),
    check('frequency_penalty and presence_penalty change what is likely', async () => {
      const repeated = 'a b a b a b a b'
      const texts = await Promise.all(
        [{}, { frequency_penalty: 2 }, { presence_penalty: 2 }].map(async (more) => {
          const { json } = await curl('/generate', { body: { inputs: repeated, parameters: { max_new_tokens: 8, ...more } } })
          return (json as { generated_text: string }).generated_text
        }),
      )
      expect(texts[1]).not.toBe(texts[0])
    }),
    check('apply_chat_template renders the inputs as the message of a user', async () => {
      const inputs = 'What is the capital of France?'
      const [templated, plain] = await Promise.all(
        [true, false].map((apply_chat_template) =>
          curl('/generate', { body: { inputs, parameters: { apply_chat_template, max_new_tokens: 4, details: true } } }),
        ),
      )
      const promptTokens = (json: unknown) => (json as { details: { prompt_tokens: number } }).details.prompt_tokens
      expect(promptTokens(templated?.json)).toBeGreaterThan(promptTokens(plain?.json) + 10)
    }),
  ]
}
