import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { callGrammar } from '../../../packages/gateway/src/routes/openai/tools/call-grammar.ts'
import { ForcedCalls } from '../../../packages/gateway/src/routes/openai/tools/forced-calls.ts'
import { randomSeed } from '../../support/random-seed.ts'

describe('a forced call that is being written', () => {
  test('is told as it comes: the name when it is whole, then every piece of the arguments', () => {
    const reader = new ForcedCalls({ isList: false })
    expect(reader.push('{ "name": "lo')).toEqual([])
    expect(reader.push('ok"')).toEqual([{ kind: 'call', name: 'look' }])
    expect(reader.push(', "arguments": {"a')).toEqual([{ kind: 'arguments', text: '{"a' }])
    expect(reader.reasonOf('length')).toBe('length')
    expect(reader.push('": 1}')).toEqual([{ kind: 'arguments', text: '": 1}' }])
    expect(reader.push(' }')).toEqual([])
    expect(reader.reasonOf('length')).toBe('tool_calls')
  })

  test('is one of several in a list', () => {
    const reader = new ForcedCalls({ isList: true })
    expect(reader.push('[{"name":"a","arguments":{}}, {"name":"b","arguments":{"x":[{}]}}')).toEqual([
      { kind: 'call', name: 'a' },
      { kind: 'arguments', text: '{}' },
      { kind: 'call', name: 'b' },
      { kind: 'arguments', text: '{"x":[{}]}' },
    ])
    expect(reader.reasonOf('stop')).toBe('stop')
    reader.push(']')
    expect(reader.reasonOf('stop')).toBe('tool_calls')
  })

  test('is the same however it is split', () => {
    const seed = randomSeed('forced-calls')
    const call = fc.record({ name: fc.string({ minLength: 1 }), arguments: fc.dictionary(fc.string(), fc.jsonValue()) })
    fc.assert(
      fc.property(fc.array(call, { minLength: 1, maxLength: 3 }), fc.nat({ max: 4 }), (calls, indent) => {
        const reader = new ForcedCalls({ isList: true })
        const parts = Array.from(JSON.stringify(calls, undefined, indent)).flatMap((character) => reader.push(character))
        const names = parts.flatMap((part) => (part.kind === 'call' ? [part.name] : []))
        const given = parts.reduce<string[]>((all, part) => {
          if (part.kind === 'call') all.push('')
          else all.push((all.pop() ?? '') + part.text)
          return all
        }, [])
        expect(names).toEqual(calls.map(({ name }) => name))
        expect(given.map((text) => JSON.parse(text))).toEqual(calls.map((one) => JSON.parse(JSON.stringify(one.arguments))))
        expect(reader.reasonOf('stop')).toBe('tool_calls')
      }),
      { seed, numRuns: 500 },
    )
  })
})

describe('the form of a forced call', () => {
  const schemaOf = (...given: Parameters<typeof callGrammar>) => {
    const grammar = callGrammar(...given)
    return JSON.parse(grammar.kind === 'json_schema' ? String(grammar.schema) : '')
  }
  const single = { isList: false }
  const call = (name: string, parameters: object) => ({
    type: 'object',
    properties: { name: { const: name }, arguments: parameters },
    required: ['name', 'arguments'],
    additionalProperties: false,
  })
  const city = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] }

  test('has the name first and arguments of the schema', () => {
    expect(schemaOf([{ name: 'look', parameters: city }], single)).toEqual(call('look', city))
    expect(Object.keys(schemaOf([{ name: 'look', parameters: city }], single).properties)).toEqual(['name', 'arguments'])
  })

  test('is any of several functions, and a list of such calls', () => {
    expect(schemaOf([{ name: 'look', parameters: city }, { name: 'now' }], { isList: true })).toEqual({
      type: 'array',
      items: {
        anyOf: [call('look', city), call('now', { type: 'object', properties: {}, additionalProperties: false })],
      },
      minItems: 1,
      maxItems: 8,
    })
  })

  test('keeps references within a schema pointing at what they meant', () => {
    const tree = {
      type: 'object',
      properties: { left: { $ref: '#' }, leaf: { $ref: '#/$defs/leaf' } },
      $defs: { leaf: { type: 'string' } },
    }
    expect(schemaOf([{ name: 'grow', parameters: tree }], single)).toEqual({
      ...call('grow', { $ref: '#/$defs/tool0' }),
      $defs: {
        tool0: { ...tree, properties: { left: { $ref: '#/$defs/tool0' }, leaf: { $ref: '#/$defs/tool0/$defs/leaf' } } },
      },
    })
  })

  test.each([
    [{ type: 'string' }, 'Tool error: the parameters of the tool look must have the type object'],
    [{ anyOf: [{ type: 'object' }] }, 'Tool error: the parameters of the tool look must have the type object'],
    [{ type: 'object', description: 'x'.repeat(70_000) }, /at most 65536 bytes/],
  ])('refuses parameters %#', (parameters, message) => {
    expect(() => callGrammar([{ name: 'look', parameters }], single)).toThrow(message)
  })
})
