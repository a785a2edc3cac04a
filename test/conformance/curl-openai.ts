/** The `/v1` routes on the wire, where a client's library would hide what came. */
import { expect } from 'vitest'
import { goldenCases } from '../support/golden.ts'
import { type Check, type Curl, dataOf } from './check.ts'

const counting = { model: '', prompt: '1, 2, 3, 4,', temperature: 0, max_tokens: 5 }
const chat = { model: '', messages: [{ role: 'user', content: 'Say yes.' }], temperature: 0, max_tokens: 4 }
const sql = goldenCases.find(({ adapter }) => adapter === 'text-to-sql')

interface Choice {
  readonly text?: string
  readonly finish_reason: string | null
  readonly delta?: { readonly role?: string; readonly content?: string }
}
const choiceOf = (json: unknown) => (json as { choices: Choice[] }).choices[0]

export function openaiChecks(curl: Curl): readonly Check[] {
  const check = (name: string, run: Check['run']): Check => ({ name: `curl: ${name}`, run })
  const complete = (more: object) => curl('/v1/completions', { body: { ...counting, ...more } })
  const ask = (more: object) => curl('/v1/chat/completions', { body: { ...chat, ...more } })
  return [
    check('a completion has the fields of OpenAI', async () => {
      const { json } = await complete({})
      expect(json).toEqual({
        ...{ id: expect.stringMatching(/^cmpl-/), object: 'text_completion', created: expect.any(Number) },
        ...{ model: 'smollm2-135m-instruct', system_fingerprint: expect.stringMatching(/^quiver-/) },
        choices: [{ index: 0, text: ' 5, 6', logprobs: null, finish_reason: 'length' }],
        usage: {
          ...{ prompt_tokens: 11, completion_tokens: 5, total_tokens: 16 },
          prompt_tokens_details: { cached_tokens: 0 },
        },
      })
    }),
    check('a chat has the fields of OpenAI and the model that was asked for', async () => {
      const { json } = await ask({ model: 'shout' })
      expect(json).toMatchObject({
        ...{ id: expect.stringMatching(/^chatcmpl-/), object: 'chat.completion', model: 'shout' },
        choices: [{ index: 0, message: { role: 'assistant', content: expect.any(String) } }],
      })
    }),
    check('a stream of /v1 ends with data, a space and [DONE]', async () => {
      for (const { text } of await Promise.all([complete({ stream: true }), ask({ stream: true })])) {
        expect(text).toMatch(/\ndata: \[DONE\]\n\n$/)
        expect(text).toMatch(/^data: \{/)
      }
    }),
    check('chunks are chat.completion.chunk with the id, model and time of their answer', async () => {
      const { text } = await ask({ stream: true })
      const chunks = dataOf(text)
        .slice(0, -1)
        .map((one) => JSON.parse(one))
      expect(new Set(chunks.map(({ id, object, model, created }) => `${id} ${object} ${model} ${created > 0}`)).size).toBe(1)
      expect(chunks[0]).toMatchObject({ object: 'chat.completion.chunk', model: 'smollm2-135m-instruct' })
      expect(chunks.map((one) => choiceOf(one)?.finish_reason).filter((reason) => reason !== null)).toEqual(['length'])
    }),
    check('the usage comes in a last chunk without choices, only when asked for', async () => {
      const [asked, not] = await Promise.all([
        complete({ stream: true, stream_options: { include_usage: true } }),
        complete({ stream: true }),
      ])
      const chunks = dataOf(asked?.text ?? '')
        .slice(0, -1)
        .map((one) => JSON.parse(one))
      expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { completion_tokens: 5 } })
      expect(not?.text).not.toContain('"usage":{')
    }),
    check('a stop text gives finish_reason stop, not content_filter', async () => {
      expect(choiceOf((await complete({ stop: ' 6', max_tokens: 9 })).json)).toMatchObject({ text: ' 5,', finish_reason: 'stop' })
    }),
    check('a model is an adapter by its name, version, alias or digest', async () => {
      const body = { prompt: sql?.prompt, max_tokens: sql?.token_ids.length, temperature: 0 }
      const first = await curl('/v1/completions', { body: { ...body, model: 'text-to-sql' } })
      const digest = first.headers['x-adapter-digest']
      for (const model of ['text-to-sql@1', 'text-to-sql@latest', `text-to-sql@sha256:${digest}`]) {
        const { json, headers } = await curl('/v1/completions', { body: { ...body, model } })
        expect([json, headers['x-adapter-digest']]).toMatchObject([{ model, choices: [{ text: sql?.text }] }, digest])
      }
    }),
    check('the answers of /v1 have the headers of LoRAX', async () => {
      const { headers } = await complete({ model: 'shout' })
      expect(headers).toMatchObject({ 'x-prompt-tokens': '11', 'x-adapter-id': 'shout', 'x-model-id': 'smollm2-135m-instruct' })
      expect(headers['x-total-time']).toMatch(/^\d+$/)
    }),
    check('max_completion_tokens is stronger than max_tokens, and null is absent', async () => {
      const { json } = await ask({ max_tokens: 4, max_completion_tokens: 2, stop: null, n: null, user: null, seed: null })
      expect(json).toMatchObject({ usage: { completion_tokens: 2 } })
    }),
    check('n and best_of of a chat and a completion are bounded', async () => {
      const [many, most] = await Promise.all([ask({ n: 17 }), complete({ best_of: 17 })])
      expect([many?.status, many?.json]).toMatchObject([422, { error: { param: 'n' } }])
      expect([most?.status, most?.json]).toMatchObject([422, { error: { param: 'best_of' } }])
    }),
    check('a seed of 64 bits and a negative one are taken under /v1', async () => {
      const text = async (seed: string) =>
        choiceOf((await curl('/v1/completions', { body: `{"model":"","prompt":"Once","max_tokens":8,"seed":${seed}}` })).json)
          ?.text
      const [one, again, minus] = await Promise.all(['18446744073709551615', '18446744073709551615', '-1'].map(text))
      expect(again).toBe(one)
      // The same 64 bits.
      expect(minus).toBe(one)
    }),
    check('a chat may have its content in parts, and a system message', async () => {
      const messages = [
        { role: 'developer', content: 'Answer with one word.' },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'Say ' },
            { type: 'text', text: 'yes.' },
          ],
        },
      ]
      const [parts, whole] = await Promise.all([
        ask({ messages }),
        ask({
          messages: [
            { role: 'system', content: 'Answer with one word.' },
            { role: 'user', content: 'Say yes.' },
          ],
        }),
      ])
      expect(choiceOf(parts?.json)).toEqual(choiceOf(whole?.json))
    }),
    check('what this model cannot read is 422 and named', async () => {
      const image = [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'data:,' } }] }]
      const { status, json } = await ask({ messages: image })
      expect([status, json]).toMatchObject([422, { error: { message: expect.stringContaining('image_url') } }])
    }),
    check('empty messages and an empty prompt are 422', async () => {
      const [messages, prompt] = await Promise.all([ask({ messages: [] }), complete({ prompt: '' })])
      expect([messages?.json, prompt?.json]).toMatchObject([{ error: { param: 'messages' } }, { error: { param: 'prompt' } }])
    }),
    check('unknown fields are ignored under /v1 too', async () => {
      const { status, json } = await complete({ surprise: { deep: [1] }, store: true, metadata: null })
      expect([status, choiceOf(json)?.text]).toEqual([200, ' 5, 6'])
    }),
    check('json_schema of OpenAI, of LoRAX and of TGI hold the answer to the same form', async () => {
      const schema = { type: 'object', properties: { ok: { type: 'boolean' } }, required: ['ok'], additionalProperties: false }
      const forms = [
        { type: 'json_schema', json_schema: { name: 'x', strict: true, schema } },
        { type: 'json_schema', schema },
        { type: 'json_object', value: schema },
      ]
      const answers = await Promise.all(forms.map((response_format) => ask({ response_format, max_tokens: 30 })))
      for (const { json } of answers) {
        const { content } = (json as { choices: { message: { content: string } }[] }).choices[0]?.message ?? { content: '' }
        expect(Object.keys(JSON.parse(content))).toEqual(['ok'])
      }
    }),
    check('embeddings have data, and the model that was asked for', async () => {
      const { json } = await curl('/v1/embeddings', { body: { model: 'shout', input: 'Hi' } })
      expect(json).toMatchObject({ object: 'list', model: 'shout', data: [{ object: 'embedding', index: 0 }] })
    }),
    check('a model of the list is there under its own address', async () => {
      const { json } = await curl('/v1/models/shout')
      expect(json).toMatchObject({
        id: 'shout',
        object: 'model',
        parent: 'smollm2-135m-instruct',
        root: expect.stringMatching(/^shout@/),
      })
    }),
    check('no error of ours says that an argument is not used by the model', async () => {
      // huggingface_hub would ask once more without it.
      const { text } = await ask({ temperature: -1, logit_bias: 3 })
      expect(text).not.toContain('not used by the model')
    }),
  ]
}
