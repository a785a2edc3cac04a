import { limits } from '@quiver/protocol'
import { describe, expect, test } from 'vitest'
import { grammarOf } from '../../packages/gateway/src/routes/structured-output.ts'

const schema = { type: 'object', properties: { a: { type: 'integer' } } }
const compiled = { kind: 'json_schema', schema: JSON.stringify(schema) }

describe('what a response format means', () => {
  test.each([
    ['nothing', undefined, undefined],
    ['null', null, undefined],
    ['text', { type: 'text' }, undefined],
    ['json_object alone', { type: 'json_object' }, { kind: 'json_object' }],
    ['json_object with the schema of lorax-client', { type: 'json_object', schema }, compiled],
    ['json_schema of LoRAX', { type: 'json_schema', schema }, compiled],
    ['json_schema of LoRAX as text', { type: 'json_schema', schema: JSON.stringify(schema) }, compiled],
    ['json_schema without a schema', { type: 'json_schema', schema: null }, { kind: 'json_object' }],
    ['json_schema of OpenAI', { type: 'json_schema', json_schema: { name: 'x', strict: true, schema } }, compiled],
    ['json of TGI', { type: 'json', value: schema }, compiled],
    ['json of TGI as text', { type: 'json', value: JSON.stringify(schema) }, compiled],
    ['json_schema of TGI', { type: 'json_schema', value: { name: 'x', schema } }, compiled],
    // What huggingface_hub sends where its user wrote OpenAI's json_schema.
    ['json_object with the value of TGI', { type: 'json_object', value: schema }, compiled],
    ['regex of TGI', { type: 'regex', value: '[0-9]+' }, { kind: 'regex', pattern: '[0-9]+' }],
  ] as const)('%s', (_, format, grammar) => {
    expect(grammarOf(format)).toEqual(grammar)
  })

  test.each([
    [{ type: 'xml' }, 'the type of `response_format` must be text, json_object or json_schema. Given: "xml"'],
    [{ type: 'ebnf', value: 'x' }, 'the type of `grammar` must be json, json_schema or regex. Given: "ebnf"'],
    [{ type: 'regex', value: 'x'.repeat(4097) }, 'the regex of `grammar` must be a string of 1 to 4096 characters'],
    [
      { type: 'json', value: `"${'x'.repeat(limits.grammarBytes)}"` },
      'the schema of `grammar` must be at most 65536 bytes of JSON',
    ],
  ])('%# is refused', (format, message) => {
    expect(() => grammarOf(format, 'value' in format ? 'grammar' : 'response_format')).toThrow(
      expect.objectContaining({ code: 'invalid_parameters', message }),
    )
  })
})
