/** Tool calls on `/v1/chat/completions`, in front of a scripted worker. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type GatewayUnderTest, startGateway } from '../support/gateway-under-test.ts'
import { accepted, done, type Script, token } from '../support/scripted-worker.ts'

let under: GatewayUnderTest
beforeEach(async () => {
  under = await startGateway()
})
afterEach(() => under.close())

const CHAT = '/v1/chat/completions'
const messages = [{ role: 'user', content: 'Weather in Oslo?' }]
const parameters = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] }
const tools = [
  { type: 'function', function: { name: 'weather', description: 'Says the weather.', parameters } },
  { type: 'function', function: { name: 'now' } },
]
const named = { type: 'function', function: { name: 'weather' } }

const says =
  (texts: readonly string[], more: Parameters<typeof done>[1] = {}): Script =>
  (run) => {
    run.send(accepted, ...texts.map((text, at) => token(text, at === texts.length - 1)), done(texts.join(''), more))
    run.end()
  }

interface Chunk {
  readonly choices: readonly { readonly delta: object; readonly logprobs: unknown; readonly finish_reason: string | null }[]
}
const chunksOf = (text: string): Chunk[] =>
  text
    .split('\n\n')
    .filter((block) => block.startsWith('data: {'))
    .map((block) => JSON.parse(block.slice('data: '.length)))

async function choice(body: object): Promise<unknown> {
  const { json, status } = await under.post(CHAT, { messages, tools, ...body })
  expect(status).toBe(200)
  return (json as { choices: unknown[] }).choices[0]
}
const aCall = (name: string, given: string) => ({
  id: expect.stringMatching(/^[0-9a-z]{9}$/),
  type: 'function',
  function: { name, arguments: given },
})

describe("calls of the model's own accord", () => {
  test('come as calls, without content, and with the reason tool_calls', async () => {
    under.worker.script = says(['<tool_call>{"name": "weather", ', '"arguments": {"city": "Oslo"}}', '</tool_call>'])
    expect(await choice({})).toEqual({
      index: 0,
      message: { role: 'assistant', content: null, refusal: null, tool_calls: [aCall('weather', '{"city": "Oslo"}')] },
      logprobs: null,
      finish_reason: 'tool_calls',
    })
    expect(under.worker.requests[0]).toMatchObject({ prompt: { tools } })
    expect(under.worker.requests[0]?.grammar).toBeUndefined()
  })

  test('have different ids, and text beside them is content', async () => {
    const one = '<tool_call>{"name": "now", "arguments": {}}</tool_call>'
    under.worker.script = says([`Wait.\n${one}`, `\n${one}`])
    const { message } = (await choice({})) as { message: { content: string; tool_calls: { id: string }[] } }
    expect(message).toMatchObject({ content: 'Wait.', tool_calls: [aCall('now', '{}'), aCall('now', '{}')] })
    expect(new Set(message.tool_calls.map(({ id }) => id)).size).toBe(2)
  })

  test('are at most one with parallel_tool_calls false', async () => {
    const one = '<tool_call>{"name": "now", "arguments": {}}</tool_call>'
    under.worker.script = says([one, one])
    expect(await choice({ parallel_tool_calls: false })).toMatchObject({ message: { tool_calls: { length: 1 } } })
  })

  test('that name no offered tool are text', async () => {
    const text = '<tool_call>{"name": "launch", "arguments": {}}</tool_call>'
    under.worker.script = says([text])
    expect(await choice({})).toMatchObject({ message: { content: text }, finish_reason: 'stop' })
    under.worker.script = says(['{"name": "now", "arguments": {}}'])
    expect(await choice({ tool_choice: 'none' })).toMatchObject({ message: { content: '{"name": "now", "arguments": {}}' } })
    expect(under.worker.requests[1]?.prompt).not.toHaveProperty('tools')
  })

  test('keep the reason length when the answer was cut after them', async () => {
    const one = '{"name": "now", "parameters": {}}'
    under.worker.script = says([one, '; {"na'], { finishReason: 'length' })
    expect(await choice({})).toMatchObject({
      message: { content: '; {"na', tool_calls: [aCall('now', '{}')] },
      finish_reason: 'length',
    })
  })

  test('stream as OpenAI does it: index, id and name, then the arguments; put together they are the whole answer', async () => {
    under.worker.script = says(['So: ', '<tool_', 'call>{"name": "weather", "arguments": {"city"', ': "Oslo"}}</tool_call>'])
    const { text } = await under.post(CHAT, { messages, tools, stream: true })
    const deltas = chunksOf(text).map(({ choices }) => choices[0])
    expect(deltas.map((one) => [one?.delta, one?.finish_reason])).toEqual([
      [{ role: 'assistant', content: null, refusal: null }, null],
      [{ content: 'So:' }, null],
      [{ tool_calls: [{ index: 0, ...aCall('weather', '') }] }, null],
      [{ tool_calls: [{ index: 0, function: { arguments: '{"city": "Oslo"}' } }] }, null],
      [{}, 'tool_calls'],
    ])
    expect(text.endsWith('data: [DONE]\n\n')).toBe(true)
  })

  test('have the log-probabilities of every token, whole and streamed', async () => {
    const texts = ['<tool_call>{"name": "now", ', '"arguments": {}}', '</tool_call>']
    under.worker.script = says(texts)
    const body = { messages, tools, logprobs: true }
    const listed = texts.map((one) => ({ token: one, logprob: -0.5 }))
    expect(await choice(body)).toMatchObject({ logprobs: { content: listed } })
    const { text } = await under.post(CHAT, { ...body, stream: true })
    const streamed = chunksOf(text).flatMap(({ choices }) => choices.map(({ logprobs }) => logprobs))
    expect(streamed.flatMap((one) => (one as { content: unknown[] } | null)?.content ?? [])).toMatchObject(listed)
  })
})

describe('forced calls', () => {
  const grammarSent = () => {
    const grammar = under.worker.requests.at(-1)?.grammar
    return grammar?.kind === 'json_schema' ? JSON.parse(String(grammar.schema)) : undefined
  }

  test.each([[named], ['weather']])('tool_choice %j: of one function by name', async (tool_choice) => {
    under.worker.script = says(['{"name": "weather", "arguments": {"city": "Oslo"}}'])
    expect(await choice({ tool_choice })).toMatchObject({
      message: { content: null, tool_calls: [aCall('weather', '{"city": "Oslo"}')] },
      finish_reason: 'tool_calls',
    })
    expect(grammarSent()).toMatchObject({ properties: { name: { const: 'weather' }, arguments: parameters } })
    expect(under.worker.requests[0]).toMatchObject({ prompt: { tools } })
  })

  test('required: of any function, several at once where the request allows it', async () => {
    under.worker.script = says(['[{"name": "now", "arguments": {}}, {"name": "weather", "arguments": {"city": "Oslo"}}]'])
    expect(await choice({ tool_choice: 'required' })).toMatchObject({
      message: { tool_calls: [aCall('now', '{}'), aCall('weather', '{"city": "Oslo"}')] },
      finish_reason: 'tool_calls',
    })
    expect(grammarSent()).toMatchObject({ type: 'array', items: { anyOf: { length: 2 } } })
    under.worker.script = says(['{"name": "now", "arguments": {}}'])
    expect(await choice({ tool_choice: 'required', parallel_tool_calls: false })).toMatchObject({
      message: { tool_calls: [aCall('now', '{}')] },
    })
    expect(grammarSent()).toMatchObject({ anyOf: { length: 2 } })
  })

  test('win over a response_format, which is for texts', async () => {
    under.worker.script = says(['{"name": "now", "arguments": {}}'])
    await choice({ tool_choice: { function: { name: 'now' } }, response_format: { type: 'json_object' } })
    expect(grammarSent()).toMatchObject({ properties: { name: { const: 'now' } } })
  })

  test('stream their arguments as they come, and say length when they were cut', async () => {
    under.worker.script = says(['{"name": "wea', 'ther", "arguments": {"ci', 'ty": "Os'], { finishReason: 'length' })
    const { text } = await under.post(CHAT, { messages, tools, tool_choice: named, stream: true })
    expect(chunksOf(text).map(({ choices }) => [choices[0]?.delta, choices[0]?.finish_reason])).toEqual([
      [{ role: 'assistant', content: null, refusal: null }, null],
      [{ tool_calls: [{ index: 0, ...aCall('weather', '') }] }, null],
      [{ tool_calls: [{ index: 0, function: { arguments: '{"ci' } }] }, null],
      [{ tool_calls: [{ index: 0, function: { arguments: 'ty": "Os' } }] }, null],
      [{}, 'length'],
    ])
  })

  test('of several choices are told apart', async () => {
    under.worker.script = says(['{"name": "now", "arguments": {}}'])
    const { json } = await under.post(CHAT, { messages, tools, tool_choice: 'now', n: 2 })
    const { choices } = json as { choices: { message: { tool_calls: { id: string }[] } }[] }
    expect(new Set(choices.map(({ message }) => message.tool_calls[0]?.id)).size).toBe(2)
  })
})

describe('what does not go together', () => {
  const refusals: readonly (readonly [body: object, message: string, param: string])[] = [
    [{ tool_choice: 'required' }, 'Tool error: a call can be forced only where there are `tools`', 'tool_choice'],
    [{ tool_choice: named, tools: [] }, 'Tool error: a call can be forced only where there are `tools`', 'tool_choice'],
    [
      { tool_choice: 'launch', tools },
      'Tool error: there is no tool "launch" among `tools`; they are: weather, now',
      'tool_choice',
    ],
    [{ tools: [tools[0], tools[0]] }, 'Tool error: the tool weather is there twice', 'tools'],
    [
      { tool_choice: 'x', tools: [{ type: 'function', function: { name: 'x', parameters: { type: 'array' } } }] },
      'Tool error: the parameters of the tool x must have the type object',
      'tools',
    ],
  ]
  test.each(refusals)('%j is a tool error', async (body, message, param) => {
    const { status, json } = await under.post(CHAT, { messages, ...body })
    expect([status, json]).toEqual([
      422,
      { error: { message, type: 'invalid_request_error', code: 'tool_error', param }, error_type: 'tool_error' },
    ])
    expect(under.worker.requests).toEqual([])
  })

  test.each([
    [{ tools: [{ type: 'retrieval' }] }, '`tools[0].type` must be "function"'],
    [{ tools: [{ type: 'function', function: { name: 'a b' } }] }, '`tools[0].function.name` must have 1 to 64 letters'],
    [{ tools: Array(129).fill(tools[1]) }, '`tools` must have at most 128 tools'],
    [{ tool_choice: 5 }, '`tool_choice` must be "none", "auto", "required" or a function to call'],
  ])('%j is of the wrong form', async (body, message) => {
    const { status, json } = await under.post(CHAT, { messages, ...body })
    expect(status).toBe(422)
    expect((json as { error: { message: string } }).error.message).toContain(message)
  })
})

test('the words that introduce tools go to the worker, and calls and results of before too', async () => {
  const call = { id: 'abcdefghi', type: 'function', function: { name: 'weather', arguments: '{"city":"Oslo"}' } }
  await under.post(CHAT, {
    messages: [
      ...messages,
      { role: 'assistant', content: null, tool_calls: [call] },
      { role: 'tool', content: 'Rain', tool_call_id: call.id },
    ],
    tools,
    tool_prompt: 'Functions:',
  })
  expect(under.worker.requests[0]?.prompt).toMatchObject({
    toolPrompt: 'Functions:',
    messages: [
      ...messages,
      { tool_calls: [{ ...call, function: { name: 'weather', arguments: { city: 'Oslo' } } }] },
      { role: 'tool', content: 'Rain', tool_call_id: call.id },
    ],
  })
})
