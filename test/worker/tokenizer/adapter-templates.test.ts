import { type ChatMessage, ServingError } from '@quiver/protocol'
import { afterEach, describe, expect, it } from 'vitest'
import { nodeTimers } from '../../../packages/worker/src/timers.ts'
import { AdapterTemplates, type AdapterTemplatesBounds } from '../../../packages/worker/src/tokenizer/adapter-templates.ts'
import { ManualClock } from '../../support/manual-clock.ts'

const user: ChatMessage = { role: 'user', content: 'Hi' }
const clock = new ManualClock()
let opened: AdapterTemplates | undefined
afterEach(() => opened?.close())

/** Processes start when something is first rendered and are real; only their time limits are short. */
function templates(bounds: Partial<AdapterTemplatesBounds> = {}): AdapterTemplates {
  opened = new AdapterTemplates({
    specialTokens: { bos_token: '<s>' },
    wallClockMs: () => Date.UTC(2024, 6, 6),
    clock,
    timers: nodeTimers,
    bounds,
  })
  return opened
}
const render = (from: AdapterTemplates, template: string, more: object = {}) =>
  from.render({ template, messages: [user], addGenerationPrompt: true, ...more })
const refusal = (promise: Promise<string>) =>
  promise.then(
    () => undefined,
    (error: unknown) => error,
  )

const endless = '{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}'
const doubling = "{% set ns = namespace(x='aaaaaaaaaaaaaaaa') %}{% for i in range(24) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}"

describe("an adapter's own template", () => {
  it('is rendered with the conversation, the tokens, the tools and the date', async () => {
    const source =
      "{{ bos_token }}{{ messages[0].content }}{{ tools | length }}{{ strftime_now('%Y') }}{{ add_generation_prompt }}"
    expect(await render(templates(), source, { tools: [{ type: 'function' }] })).toBe('<s>Hi12024true')
  })

  it('that refuses the conversation is refused with its own words, and the next one is rendered', async () => {
    const from = templates()
    expect(await refusal(render(from, "{{ raise_exception('no') }}"))).toMatchObject({
      code: 'template_error',
      message: 'Failed applying chat template to inputs: no',
    })
    expect(await render(from, 'fine')).toBe('fine')
  })

  it('cannot ask for too much: it is refused, and its process lives on', async () => {
    const from = templates({ renderMs: 10_000 })
    const cases: readonly (readonly [template: string, message: RegExp])[] = [
      ['{% for i in range(10**9) %}x{% endfor %}', /Failed applying/],
      ['{% for i in range(1000000000) %}x{% endfor %}', /is too long/],
      ['{% if %}', /Failed applying/],
      [`${doubling.replace('24', '17')}{{ ns.x }}`, /made more than 1048576 characters/],
      ['{{ messages.constructor.constructor("return process")() }}', /Failed applying/],
      [`{{ ${'('.repeat(20_000)}1${')'.repeat(20_000)} }}`, /Failed applying/],
    ]
    for (const [source, message] of cases) {
      const refused = { code: 'template_error', message: expect.stringMatching(message) }
      expect(await refusal(render(from, source)), source.slice(0, 80)).toMatchObject(refused)
    }
  })
})

describe('a template that does not end', () => {
  it('is ended, while timers go on, and others are served after it', async () => {
    const from = templates({ renderMs: 300 })
    let ticks = 0
    const ticking = setInterval(() => ticks++, 10)
    const [slow, next] = await Promise.all([refusal(render(from, endless)), render(from, 'next')])
    clearInterval(ticking)
    expect(slow).toMatchObject({ code: 'template_error', message: expect.stringContaining('takes more than 300 ms') })
    expect(next).toBe('next')
    expect(ticks).toBeGreaterThan(5)
  })

  it('holds up nobody for conversations that nobody waits for any more', async () => {
    const from = templates({ renderMs: 300, waiting: 1 })
    expect(await render(from, 'fine')).toBe('fine')
    const slow = refusal(render(from, endless))
    const client = new AbortController()
    const left = refusal(from.render({ template: 'left', messages: [user] }, client.signal))
    client.abort()
    const late = refusal(from.render({ template: 'late', messages: [user] }, client.signal))
    const next = render(from, 'next')
    for (const gone of [left, late]) expect(await gone).toMatchObject({ code: 'client_closed' })
    expect([await slow, await next]).toEqual([expect.objectContaining({ code: 'template_error' }), 'next'])
  })

  it('is refused untried for a while, and then tried again', async () => {
    const from = templates({ renderMs: 300, refusedMs: 1_000 })
    await refusal(render(from, endless))
    expect(await refusal(render(from, endless))).toMatchObject({ message: expect.stringContaining('just now') })
    clock.advance(1_001)
    expect(await refusal(render(from, endless))).toMatchObject({ message: expect.stringContaining('takes more than 300 ms') })
  })
})

it('a template that asks for all the memory ends its own process and nothing else', async () => {
  const from = templates()
  expect(await refusal(render(from, `${doubling}{{ ns.x | upper | length }}`))).toMatchObject({
    code: 'template_error',
    message: expect.stringContaining('takes too much memory'),
  })
  expect(await render(from, 'fine')).toBe('fine')
})

it('what waits is bounded, and ends when the worker stops', async () => {
  const from = templates({ waiting: 1 })
  const first = refusal(render(from, 'one'))
  expect(await refusal(render(from, 'two'))).toMatchObject({ code: 'overloaded' })
  from.close()
  expect(await first).toBeInstanceOf(ServingError)
  expect(await refusal(render(from, 'three'))).toMatchObject({ code: 'draining' })
})
