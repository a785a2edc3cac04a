import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { CallPart } from '../../../packages/gateway/src/routes/openai/tools/call-reader.ts'
import { FoundCalls } from '../../../packages/gateway/src/routes/openai/tools/found-calls.ts'
import { randomSeed } from '../../support/random-seed.ts'

const names = new Set(['look', 'add'])

/** What comes of these pieces: the text, and each call as its name and arguments. */
function read(pieces: readonly string[], parallel = true): { text: string; calls: [string, string][] } {
  const reader = new FoundCalls({ names, parallel })
  const parts: CallPart[] = [...pieces.flatMap((piece) => reader.push(piece)), ...reader.end()]
  const calls: [string, string][] = []
  let text = ''
  for (const part of parts) {
    if (part.kind === 'text') text += part.text
    else if (part.kind === 'call') calls.push([part.name, ''])
    else (calls.at(-1) as [string, string])[1] += part.text
  }
  return { text, calls }
}

const tagged = (json: string) => `<tool_call>\n${json}\n</tool_call>`
const look = '{"name": "look", "arguments": {"at": "</tool_call> \\"{"}}'
const lookArguments = '{"at": "</tool_call> \\"{"}'

describe('calls are found', () => {
  const cases: readonly [title: string, text: string, calls: [string, string][], rest?: string][] = [
    ['in tags', tagged(look), [['look', lookArguments]]],
    ['in tags without white space', `<tool_call>${look}</tool_call>`, [['look', lookArguments]]],
    ['after a text, whose white space goes', `Let me see.\n\n${tagged(look)}\n`, [['look', lookArguments]], 'Let me see.'],
    ['between texts', `a ${tagged(look)}\nb `, [['look', lookArguments]], 'a\nb '],
    [
      'one after the other',
      `${tagged(look)}\n${tagged('{"name":"add","arguments":{}}')}`,
      [
        ['look', lookArguments],
        ['add', '{}'],
      ],
    ],
    ['where the end took the closing tag', `<tool_call>${look}`, [['look', lookArguments]]],
    ['where the end took a part of the closing tag', `<tool_call>${look}\n</tool_`, [['look', lookArguments]]],
    ['bare, in the words of Llama 3', '{"name": "add", "parameters": {"a": 1.50}}', [['add', '{"a": 1.50}']]],
    ['bare, after white space', ' \n{"arguments":{}, "name":"add"}', [['add', '{}']]],
    [
      'bare, several',
      '{"name":"add","parameters":{}}; {"name":"look","parameters":{"b":[1,{}]}}\n',
      [
        ['add', '{}'],
        ['look', '{"b":[1,{}]}'],
      ],
    ],
    ['bare, and a text after it', '{"name":"add","parameters":{}} done', [['add', '{}']], ' done'],
    ['with other fields', '{"type":"function","id":7,"x":[true,null],"name":"add","parameters":{}}', [['add', '{}']]],
    ['with arguments as JSON in a string', tagged('{"name":"add","arguments":"{\\"a\\": 1}"}'), [['add', '{"a": 1}']]],
    ['with a name in escapes', tagged('{"name":"\\u0061dd","arguments":{}}'), [['add', '{}']]],
    ['after a tag that begins none', `<tool_call><tool_call>${look}</tool_call>`, [['look', lookArguments]], '<tool_call>'],
    ['after a beginning of a tag', `<tool<${tagged(look)}`, [['look', lookArguments]], '<tool<'],
  ]
  test.each(cases)('%s', (_title, text, calls, rest = '') => {
    expect(read([text])).toEqual({ text: rest, calls })
    expect(read(Array.from(text))).toEqual({ text: rest, calls })
  })

  test('only the first where calls may not be made at once', () => {
    expect(read([`${tagged(look)}${tagged(look)} end`], false)).toEqual({ text: ' end', calls: [['look', lookArguments]] })
  })
})

describe('everything else stays text to the last character', () => {
  test.each([
    [''],
    [' \n '],
    ['Hello {"name": "add", "arguments": {}}'],
    ['{"name": "stranger", "arguments": {}}'],
    [tagged('{"name": "stranger", "arguments": {}}')],
    ['{"name": "add"}'],
    ['{"name": "add", "arguments": [1]}'],
    ['{"name": "add", "arguments": "not json"}'],
    ['{"name": "add", "arguments": {'],
    ['{"name": ["add"], "arguments": {}}'],
    ['{ hello }'],
    ['{}'],
    [tagged('{"name": "add", "arguments": {"a": 01}}')],
    [tagged('{"name": "add", "arguments": {},}')],
    [tagged("{'name': 'add', 'arguments': {}}")],
    ['<tool_call> not json </tool_call>'],
    ['<tool_call>'],
    ['<tool_cal'],
    [`<tool_call>${look} and so on`],
    ['<tool_response>{"name": "add", "arguments": {}}</tool_response>'],
    [`{"name":"add","arguments":${'['.repeat(100)}`],
  ])('%j', (text) => {
    expect(read([text])).toEqual({ text, calls: [] })
    expect(read(Array.from(text))).toEqual({ text, calls: [] })
  })
})

const fragment = fc.constantFrom(
  ...['<tool_call>', '</tool_call>', look, '{"name":"add","arguments":{}}', '{"name":"no","arguments":{}}', '<tool', '</'],
  ...['{', '}', '"', '[', ']', ',', ':', '\\', ' ', '\n', ';', 'a', '1', '-', 'true', '\\u00', '"name"', '😀'],
)

test('any split of any text gives the same, and text is neither lost nor made up', () => {
  const seed = randomSeed('found-calls')
  fc.assert(
    fc.property(fc.array(fragment, { maxLength: 12 }), fc.array(fc.nat(), { maxLength: 8 }), (fragments, cuts) => {
      const text = fragments.join('')
      const at = [0, ...cuts.map((cut) => cut % (text.length + 1)).sort((a, b) => a - b), text.length]
      const pieces = at.slice(1).map((end, index) => text.slice(at[index], end))
      const whole = read([text])
      expect(read(pieces)).toEqual(whole)
      if (whole.calls.length === 0) expect(whole.text).toBe(text)
      for (const [name, given] of whole.calls) {
        expect(names.has(name)).toBe(true)
        expect(JSON.parse(given)).toBeInstanceOf(Object)
      }
    }),
    { seed, numRuns: 3000 },
  )
})
