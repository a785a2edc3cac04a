/** What LoRAX, TGI and OpenAI call `response_format` and `grammar`, in the words of the worker. */
import { type Grammar, limits, ServingError } from '@quiver/protocol'
import { z } from 'zod'

type Schema = string | Readonly<Record<string, unknown>>

/** Taken as it is: a copy of a hostile one would cost as much as its thousands of keys. */
const schemaText = z
  .custom<Schema>(
    (value) => typeof value === 'string' || (typeof value === 'object' && value !== null && !Array.isArray(value)),
    { error: 'must hold its schema or pattern as an object or a string' },
  )
  // For the OpenAPI document, which cannot look into a check.
  .meta({ type: ['object', 'string'] })

/**
 * LoRAX, OpenAI and TGI at once: LoRAX has the schema beside the type, OpenAI in `json_schema`, and TGI as `value`, which is what
 * huggingface_hub makes of OpenAI's.
 */
export const responseFormatSchema = z.object(
  {
    type: z
      .string({ error: 'must have a type' })
      .describe('`text`, `json_object` or `json_schema`; with `value` also `json` and `regex`.'),
    schema: schemaText.nullish().describe('A JSON schema, where LoRAX has it.'),
    json_schema: z.object({ schema: schemaText.nullish() }).nullish().describe('A JSON schema, where OpenAI has it.'),
    value: schemaText.nullish().describe('A JSON schema or a pattern, where TGI has it.'),
  },
  { error: 'must be an object with a type' },
)
export type ResponseFormat = z.infer<typeof responseFormatSchema>

/** TGI's. */
export const tgiGrammarSchema = z.object(
  {
    type: z.string({ error: 'must have a type' }).describe('`json`, `json_schema` or `regex`.'),
    value: schemaText.describe('A JSON schema, or a pattern for the whole text.'),
  },
  { error: 'must be an object with a type and a value' },
)
export type TgiGrammar = z.infer<typeof tgiGrammarSchema>

/**
 * @param format null and undefined for none; with a `value` it is read as TGI does
 * @param field where it stands, for what is said of it
 * @returns undefined for an answer without a form
 * @throws ServingError `invalid_parameters` for a type that is not known, and for a form that is too long
 * @example grammarOf({ type: 'json_object', schema: { type: 'object' } }) // { kind: 'json_schema', schema: '{"type":"object"}' }
 * @example grammarOf({ type: 'regex', value: '[0-9]+' }) // { kind: 'regex', pattern: '[0-9]+' }
 */
export function grammarOf(
  format: ResponseFormat | TgiGrammar | null | undefined,
  field: 'response_format' | 'grammar' = 'response_format',
): Grammar | undefined {
  if (format === null || format === undefined) return undefined
  const { value } = format
  return value === null || value === undefined ? ofResponseFormat(format) : ofTgi({ type: format.type, value }, field)
}

function ofResponseFormat({ type, schema, json_schema: named }: Partial<ResponseFormat> & { type: string }): Grammar | undefined {
  switch (type) {
    case 'text':
      return undefined
    case 'json_object':
    case 'json_schema':
      // `lorax-client` says json_object and sends a schema with it; without one LoRAX takes any object.
      return ofSchema('response_format', schema ?? named?.schema)
    default:
      throw unknownType('response_format', type, 'text, json_object or json_schema')
  }
}

function ofTgi({ type, value }: TgiGrammar, field: 'response_format' | 'grammar'): Grammar {
  switch (type) {
    case 'json':
    case 'json_object':
      return ofSchema(field, value)
    case 'json_schema':
      // `{ name, schema }`, as TGI passes on what OpenAI's clients send.
      return ofSchema(field, schemaWithin(value))
    case 'regex':
      return ofPattern(value, field)
    default:
      throw unknownType(field, type, 'json, json_schema or regex')
  }
}

function schemaWithin(value: TgiGrammar['value']): TgiGrammar['value'] {
  if (typeof value === 'string') return value
  const inner = schemaText.safeParse(value['schema'])
  return inner.success ? inner.data : value
}

/** As text, because that is what is compiled, and what the compiled form is found again by. */
function ofSchema(field: string, schema: z.infer<typeof schemaText> | null | undefined): Grammar {
  if (schema === null || schema === undefined) return { kind: 'json_object' }
  const text = typeof schema === 'string' ? schema : JSON.stringify(schema)
  if (Buffer.byteLength(text) > limits.grammarBytes) {
    throw new ServingError(
      'invalid_parameters',
      `the schema of \`${field}\` must be at most ${limits.grammarBytes} bytes of JSON`,
    )
  }
  return { kind: 'json_schema', schema: text }
}

function ofPattern(pattern: TgiGrammar['value'], field: string): Grammar {
  if (typeof pattern !== 'string' || pattern === '' || pattern.length > limits.grammarPatternCharacters) {
    throw new ServingError(
      'invalid_parameters',
      `the regex of \`${field}\` must be a string of 1 to ${limits.grammarPatternCharacters} characters`,
    )
  }
  return { kind: 'regex', pattern }
}

function unknownType(field: string, type: string, known: string): ServingError {
  return new ServingError(
    'invalid_parameters',
    `the type of \`${field}\` must be ${known}. Given: ${JSON.stringify(type.slice(0, 40))}`,
  )
}
