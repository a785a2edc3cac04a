/** What the gateway makes of forced tool calls, under the real compiler. */
import { afterAll, expect, test } from 'vitest'
import { callGrammar } from '../../../packages/gateway/src/routes/openai/tools/call-grammar.ts'
import { ForcedCalls } from '../../../packages/gateway/src/routes/openai/tools/forced-calls.ts'
import { randomFrom, randomSeed } from '../../support/random-seed.ts'
import { drawText, grammarsUnderTest } from './grammars-under-test.ts'
import { fits } from './random-schemas.ts'

const grammars = grammarsUnderTest()
afterAll(() => grammars.close())

const mood = { type: 'object', properties: { mood: { enum: ['good', 'bad'] }, days: { type: 'boolean' } }, required: ['mood'] }
const nested = {
  type: 'object',
  properties: { where: { $ref: '#/$defs/place' } },
  required: ['where'],
  $defs: { place: { type: 'object', properties: { code: { enum: ['a', 'b'] } }, required: ['code'] } },
}
const bounded = { type: 'object', properties: { age: { type: 'integer', minimum: 3, maximum: 120 } }, required: ['age'] }
/** What the arguments must fit; references are written out. */
const forms: Readonly<Record<string, Parameters<typeof fits>[1]>> = {
  mood,
  nested: { type: 'object', properties: { where: nested.$defs.place }, required: ['where'] },
  bounded,
  nothing: { type: 'object', properties: {}, additionalProperties: false },
}

test.each([
  ['one function', [{ name: 'mood', parameters: mood }], false],
  ['a function whose schema has references', [{ name: 'nested', parameters: nested }], false],
  ['a function with bounds', [{ name: 'bounded', parameters: bounded }], false],
  ['a function without arguments', [{ name: 'nothing' }], false],
  [
    'any of three functions',
    [{ name: 'mood', parameters: mood }, { name: 'nested', parameters: nested }, { name: 'nothing' }],
    false,
  ],
  [
    'a list of calls',
    [
      { name: 'mood', parameters: mood },
      { name: 'nested', parameters: nested },
    ],
    true,
  ],
])('every text is calls that fit: %s', async (title, functions, isList) => {
  const random = randomFrom(randomSeed(title))
  let ended = 0
  for (let round = 0; round < 12; round++) {
    const constraint = await grammars.open(callGrammar(functions, { isList }))
    const text = drawText(constraint, random)
    constraint.close()
    if (text === undefined) continue
    ended++
    const reader = new ForcedCalls({ isList })
    const calls: { name: string; given: string }[] = []
    for (const part of reader.push(text)) {
      if (part.kind === 'call') calls.push({ name: part.name, given: '' })
      else (calls.at(-1) ?? { given: '' }).given += part.text
    }
    expect(reader.reasonOf('stop'), text).toBe('tool_calls')
    expect(calls.length).toBeGreaterThan(0)
    for (const { name, given } of calls) {
      expect(functions.map((one) => one.name)).toContain(name)
      const form = forms[name]
      expect(form !== undefined && fits(JSON.parse(given), form), text).toBe(true)
    }
  }
  expect(ended).toBeGreaterThan(0)
})
