import { type ChatMessage, ServingError } from '@quiver/protocol'
import { describe, expect, it } from 'vitest'
import { createTokenizer } from '../../../packages/worker/src/tokenizer/create-tokenizer.ts'
import { deps, loadTokenizer, readJsonFixture, smollm2Files } from './fixtures.ts'

interface ChatCase {
  readonly messages: ChatMessage[]
  readonly addGenerationPrompt: boolean
  readonly text: string
}

const user: ChatMessage = { role: 'user', content: 'Hi' }

function render(chatTemplate: string, messages: readonly ChatMessage[] = [user], addGenerationPrompt?: boolean): string {
  const options = addGenerationPrompt === undefined ? {} : { addGenerationPrompt }
  const tokenizer = readJsonFixture<Record<string, unknown>>('llama3.tokenizer.json')
  const config = { bos_token: { content: '<|begin_of_text|>' }, eos_token: '<|eot_id|>', pad_token: null }
  return createTokenizer({ kind: 'json', tokenizer, config, chatTemplate }, deps).applyChatTemplate(messages, options)
}

function refusal(run: () => unknown): ServingError {
  try {
    run()
  } catch (error) {
    if (error instanceof ServingError) return error
    throw error
  }
  throw new Error('nothing was refused')
}

describe('a chat template', () => {
  it("renders SmolLM2's conversations as transformers does", () => {
    const tokenizer = loadTokenizer('smollm2')
    for (const { messages, addGenerationPrompt, text } of readJsonFixture<ChatCase[]>('smollm2.chats.json')) {
      expect(tokenizer.applyChatTemplate(messages, { addGenerationPrompt })).toBe(text)
    }
  })

  it('asks for an answer unless told otherwise', () => {
    const template = '{{ messages[0].content }}{% if add_generation_prompt %}>{% endif %}'
    expect(render(template)).toBe('Hi>')
    expect(render(template, [user], false)).toBe('Hi')
  })

  it('knows the special tokens by their names', () => {
    expect(render('{{ bos_token }}|{{ eos_token }}|{{ pad_token }}')).toBe('<|begin_of_text|>|<|eot_id|>|')
    const files = { ...smollm2Files(), chatTemplate: '{{ bos_token }}|{{ eos_token }}' }
    expect(createTokenizer(files, deps).applyChatTemplate([user])).toBe('<|im_start|>|<|im_end|>')
  })

  it('strips blocks as transformers has Jinja do', () => {
    expect(render('{% for m in messages %}\n  {% if true %}\n{{ m.role }}\n  {% endif %}\n{% endfor %}')).toBe('user\n')
  })

  it("states the injected clock's date, in English and in UTC", () => {
    expect(render("{{ strftime_now('%d %b %Y') }}")).toBe('06 Jul 2024')
    expect(render("{{ strftime_now('%A %a %B %m %y %H:%M:%S %I %p %% %q') }}")).toBe(
      'Saturday Sat July 07 24 09:05:03 09 AM % %q',
    )
  })

  it('renders what a message says without reading it as a template', () => {
    expect(render('{{ messages[0].content }}', [{ role: 'user', content: '{{ bos_token }}{% if %}' }])).toBe(
      '{{ bos_token }}{% if %}',
    )
  })
})

describe('a chat template that fails', () => {
  it.each([
    ["{{ raise_exception('roles must alternate') }}", 'Failed applying chat template to inputs: roles must alternate'],
    ['{% if %}', /^Failed applying chat template to inputs: ./],
    ['{{ messages.nothing() }}', /^Failed applying chat template to inputs: ./],
    ['{% for i in range(1000000000) %}x{% endfor %}', /range\(0, 1000000000, 1\) is too long$/],
  ])('refuses the request: %s', (template, message) => {
    const error = refusal(() => render(template))
    expect(error.code).toBe('template_error')
    expect(error.message).toMatch(message)
  })

  it('says so where the model has none', () => {
    const error = refusal(() => loadTokenizer('llama3').applyChatTemplate([user]))
    expect(error.code).toBe('template_error')
    expect(error.message).toBe('Failed applying chat template to inputs: this model has no chat template')
  })
})
