/** A JSON schema as rows for people: every field with its whole path, its type and its bounds in words. */
import type { JsonSchema } from './document.ts'

export interface FieldRow {
  /** `parameters.merged_adapters.ids`; what stands in a list has `[]` behind it. */
  readonly name: string
  readonly type: string
  readonly isRequired: boolean
  readonly description: string
}

export function fieldRows(schema: JsonSchema, path = ''): readonly FieldRow[] {
  const inner = withoutNull(schema)
  const { items, required } = inner
  if (isSchema(items)) return fieldRows(items, path === '' ? '' : `${path}[]`)
  const choices = schemaList(inner['anyOf'] ?? inner['oneOf'])
  if (choices.length > 0) return choices.flatMap((choice) => fieldRows(choice, path))
  const properties = inner['properties']
  if (!isSchema(properties)) return []
  return Object.entries(properties).flatMap(([key, value]) => {
    if (!isSchema(value)) return []
    const name = path === '' ? key : `${path}.${key}`
    const { description } = value
    const row = {
      name,
      type: typeText(value),
      isRequired: Array.isArray(required) && required.includes(key),
      description: typeof description === 'string' ? description : '',
    }
    return [row, ...fieldRows(value, name)]
  })
}

/** @example typeText({ anyOf: [{ type: 'integer', minimum: 0 }, { type: 'null' }] }) // 'integer, at least 0, or null' */
export function typeText(schema: JsonSchema): string {
  const choices = schemaList(schema['anyOf'] ?? schema['oneOf'])
  if (choices.length > 0) {
    const texts = choices.map(typeText)
    return texts.length === 1 ? (texts[0] ?? '') : `${texts.slice(0, -1).join(', ')} or ${texts.at(-1)}`
  }
  if ('const' in schema) return `\`${JSON.stringify(schema['const'])}\``
  const values = schema['enum']
  if (Array.isArray(values)) return `one of ${values.map((value) => `\`${String(value)}\``).join(', ')}`
  const { type, items } = schema
  if (isSchema(items)) return `list of ${typeText(items)}`
  const name = Array.isArray(type) ? type.join(' or ') : typeof type === 'string' ? type : 'anything'
  return [name, ...boundTexts(schema)].join(', ')
}

/** Where the range of 32 bits ends; wider bounds only say what a number can hold, and are left out. */
const WIDEST_BOUND = 2 ** 31 - 1

function boundTexts(schema: JsonSchema): readonly string[] {
  const words = [
    ['minimum', 'at least'],
    ['exclusiveMinimum', 'more than'],
    ['maximum', 'at most'],
  ] as const
  return words.flatMap(([keyword, word]) => {
    const bound = schema[keyword]
    return typeof bound === 'number' && Math.abs(bound) < WIDEST_BOUND ? [`${word} ${bound}`] : []
  })
}

/** The other of two choices where one is null. */
function withoutNull(schema: JsonSchema): JsonSchema {
  const [only, ...more] = schemaList(schema['anyOf']).filter(({ type }) => type !== 'null')
  return only !== undefined && more.length === 0 ? only : schema
}

function schemaList(value: unknown): readonly JsonSchema[] {
  return Array.isArray(value) ? value.filter(isSchema) : []
}

function isSchema(value: unknown): value is JsonSchema {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
