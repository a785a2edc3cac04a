import { ServingError } from '@quiver/protocol'
import { describe, expect, test } from 'vitest'
import { readChatTemplate } from '../../../packages/cache/src/format/chat-template-file.ts'

const bytes = (text: string) => new TextEncoder().encode(text)
const config = (fields: object) => ({ 'tokenizer_config.json': bytes(JSON.stringify(fields)) })

describe("an adapter's chat template", () => {
  test('is chat_template.jinja as it stands', () => {
    const text = '{% for m in messages %}\n  {{ m.content }} größer\n{% endfor %}\n'
    expect(readChatTemplate({ 'chat_template.jinja': bytes(text) })).toBe(text)
  })

  test('is the field of tokenizer_config.json where there is no such file', () => {
    expect(readChatTemplate(config({ bos_token: '<s>', chat_template: 'field' }))).toBe('field')
    expect(readChatTemplate({ 'chat_template.jinja': bytes('file'), ...config({ chat_template: 'field' }) })).toBe('file')
  })

  test('is the default one of several with names', () => {
    const named = [
      { name: 'tool_use', template: 'no' },
      { name: 'default', template: 'yes' },
    ]
    expect(readChatTemplate(config({ chat_template: named }))).toBe('yes')
    expect(readChatTemplate(config({ chat_template: named.slice(0, 1) }))).toBeUndefined()
  })

  test.each([
    ['no file', {}],
    ['no field', config({ bos_token: '<s>' })],
    ['null', config({ chat_template: null })],
    ['an empty field', config({ chat_template: '' })],
    ['an empty file', { 'chat_template.jinja': bytes('') }],
  ])('is none: %s', (_, files) => {
    expect(readChatTemplate(files)).toBeUndefined()
  })

  test('of 64 KiB is taken', () => {
    expect(readChatTemplate({ 'chat_template.jinja': bytes('x'.repeat(65_536)) })).toHaveLength(65_536)
  })

  test.each([
    [
      'a file too long',
      { 'chat_template.jinja': bytes('x'.repeat(65_537)) },
      'chat_template.jinja has 65537 bytes, more than 65536',
    ],
    [
      'a field too long in bytes',
      config({ chat_template: 'ö'.repeat(32_769) }),
      'chat_template of tokenizer_config.json has 65538 bytes, more than 65536',
    ],
    ['a number', config({ chat_template: 5 }), /chat_template of tokenizer_config.json is .*, not a text/],
    ['a default that is no text', config({ chat_template: [{ name: 'default', template: {} }] }), /not a text/],
    ['bytes that are no UTF-8', { 'chat_template.jinja': Uint8Array.of(0xff, 0xfe) }, 'chat_template.jinja is not UTF-8'],
    ['a config that is no JSON', { 'tokenizer_config.json': bytes('{') }, /tokenizer_config.json/],
    [
      'a config that is no object',
      { 'tokenizer_config.json': bytes('[]') },
      /tokenizer_config.json is a list of 0, not an object/,
    ],
    [
      'a field that is there twice',
      { 'tokenizer_config.json': bytes('{"chat_template":"a","chat_template":"b"}') },
      /chat_template/,
    ],
    ['a config too large', { 'tokenizer_config.json': new Uint8Array(4 * 1024 * 1024 + 1) }, /more than 4194304/],
  ])('is refused: %s', (_, files, message) => {
    expect(() => readChatTemplate(files)).toThrow(ServingError)
    expect(() => readChatTemplate(files)).toThrow(message)
  })
})
