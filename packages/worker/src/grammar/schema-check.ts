import { limits } from '@quiver/protocol'
import { refusal } from './compile-thread.ts'
import { boundedInteger, integerBounds } from './integer-bounds.ts'
import { patternWithinJson } from './pattern-check.ts'

type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json }
type JsonObject = { readonly [name: string]: Json }

/** Rules that the compiler takes without holding to them: an answer could break them, so they are refused. */
const unsupported = new Set([
  'not',
  'if',
  'then',
  'else',
  'contains',
  'minContains',
  'maxContains',
  'uniqueItems',
  'multipleOf',
  'dependentRequired',
  'dependentSchemas',
  'dependencies',
  'unevaluatedItems',
  'unevaluatedProperties',
  'propertyNames',
  'patternProperties',
  'minProperties',
  'maxProperties',
  'additionalItems',
  '$dynamicRef',
  '$recursiveRef',
  '$anchor',
  '$id',
])

/** Keywords that hold one schema, a list of schemas, and schemas by name. */
const holdsOne = new Set(['items', 'additionalProperties'])
const holdsList = new Set(['anyOf', 'allOf', 'prefixItems'])
const holdsNamed = new Set(['properties', '$defs', 'definitions'])

/** Bounds that the compiler unrolls. */
const lengthBounds = new Set(['minLength', 'maxLength', 'minItems', 'maxItems'])
const valueBounds = new Set<string>(integerBounds)
const MOST_UNROLLED = 10_000
/** Of the schema's JSON, constants included. Each schema within another is up to two levels down. */
const DEEPEST_JSON = 3 * limits.grammarDepth

/**
 * @param schema an object, or JSON text
 * @returns the schema as the compiler is given it, which no text fits that does not fit the given one
 * @throws ServingError `invalid_parameters` naming the rule that is not supported and where it stands
 */
export function requireSchema(schema: string | Readonly<Record<string, unknown>>): Json {
  const text = typeof schema === 'string' ? schema : JSON.stringify(schema)
  if (Buffer.byteLength(text) > limits.grammarBytes) throw refusal(`the schema is longer than ${limits.grammarBytes} bytes`)
  const json = parse(text)
  requireShallow(json, 0)
  return checked(json, '#', 0)
}

/** Also what is no schema, such as a constant: whatever reads it next recurses. */
function requireShallow(json: Json, depth: number): void {
  if (depth > DEEPEST_JSON) throw refusal(`the schema's JSON is nested deeper than ${DEEPEST_JSON} levels`)
  if (typeof json === 'object' && json !== null) for (const one of Object.values(json)) requireShallow(one, depth + 1)
}

function parse(text: string): Json {
  try {
    return JSON.parse(text) as Json
  } catch (cause) {
    throw refusal(`the schema is not JSON: ${(cause as SyntaxError).message.slice(0, 200)}`)
  }
}

function checked(schema: Json, where: string, depth: number): Json {
  if (depth > limits.grammarDepth) throw refusal(`the schema is nested deeper than ${limits.grammarDepth} levels`)
  if (schema === true) return schema
  if (!isObject(schema)) throw refusal(schema === false ? `nothing fits \`false\` at ${where}` : `${where} is not a schema`)
  requireKnownRules(schema, where)
  const integer = boundedInteger(schema, where)
  if (integer !== undefined) return integer as Json
  const entries = Object.entries(schema).map(([keyword, value]): [string, Json] => [
    keyword === 'oneOf' ? 'anyOf' : keyword,
    checkedValue({ keyword, value, where: `${where}/${keyword}`, depth: depth + 1 }),
  ])
  return { ...Object.fromEntries(entries), ...additionalOf(schema) }
}

interface Place {
  readonly keyword: string
  readonly value: Json
  readonly where: string
  readonly depth: number
}

function checkedValue({ keyword, value, where, depth }: Place): Json {
  if (keyword === 'pattern') return typeof value === 'string' ? patternWithinJson(value) : fail(`${where} must be a string`)
  if (lengthBounds.has(keyword) && !(Number.isSafeInteger(value) && Number(value) >= 0 && Number(value) <= MOST_UNROLLED)) {
    return fail(`${where} must be a whole number up to ${MOST_UNROLLED}`)
  }
  if (holdsOne.has(keyword)) return value === false ? value : checked(value, where, depth)
  if (holdsList.has(keyword) || keyword === 'oneOf') {
    if (!Array.isArray(value) || value.length === 0) return fail(`${where} must be a list of schemas`)
    return value.map((one: Json, at) => checked(one, `${where}/${at}`, depth))
  }
  if (!holdsNamed.has(keyword)) return value
  if (!isObject(value)) return fail(`${where} must be an object of schemas`)
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, checked(one, `${where}/${name}`, depth)]))
}

function requireKnownRules(schema: JsonObject, where: string): void {
  const names = Object.keys(schema)
  const rule = names.find((name) => unsupported.has(name) && schema[name] !== false)
  if (rule !== undefined) fail(`\`${rule}\` at ${where} is not supported`)
  const { allOf, oneOf, required = [], properties = {}, additionalProperties, $ref } = schema
  if (Array.isArray(allOf) && (allOf.length > 1 || names.length > 1))
    fail(`\`allOf\` at ${where} is supported only alone, with one schema`)
  if (Array.isArray(oneOf) && !excludeEachOther(oneOf)) {
    fail(`\`oneOf\` at ${where} is supported only between types that differ or constants: use \`anyOf\``)
  }
  const alternatives = ['anyOf', 'oneOf', '$ref', 'enum', 'const'].filter((name) => name in schema)
  const beside = names.filter((name) => rules.has(name) && !alternatives.includes(name))
  if (
    alternatives.length > 1 ||
    (alternatives.length === 1 && beside.some((name) => name !== 'type' || !isEnumLike(alternatives[0])))
  ) {
    fail(`\`${alternatives[0]}\` at ${where} is supported only without other rules beside it`)
  }
  if ($ref !== undefined && (typeof $ref !== 'string' || !$ref.startsWith('#')))
    fail(`\`$ref\` at ${where} must point into the schema, with #`)
  if (!Array.isArray(required) || !isObject(properties))
    fail(`\`required\` and \`properties\` at ${where} must be a list and an object`)
  // The compiler lets fractions past their bounds, and takes the point of a bound for any character.
  const bound = names.find((name) => valueBounds.has(name))
  if (bound !== undefined && schema['type'] !== 'integer') fail(`\`${bound}\` at ${where} is supported only with type integer`)
  // The compiler writes names into its own language as they stand.
  const unwritable = Object.keys(properties).find((name) => /["\\\p{Cc}]/u.test(name))
  if (unwritable !== undefined)
    fail(`the name ${JSON.stringify(unwritable)} at ${where} has a quote, a backslash or a control character`)
  const undeclared = required.find((name: Json) => typeof name !== 'string' || !Object.hasOwn(properties, name))
  if (undeclared !== undefined) fail(`${JSON.stringify(undeclared)} at ${where} is required but not among its properties`)
  if (additionalProperties !== undefined && typeof additionalProperties !== 'boolean' && !isObject(additionalProperties)) {
    fail(`\`additionalProperties\` at ${where} must be true, false or a schema`)
  }
}

/** Rules of values; anything else says nothing about what fits. */
const rules = new Set([
  'type',
  'properties',
  'required',
  'additionalProperties',
  'items',
  'prefixItems',
  'minItems',
  'maxItems',
  'minLength',
  'maxLength',
  'pattern',
  'format',
  'minimum',
  'maximum',
  'exclusiveMinimum',
  'exclusiveMaximum',
  'anyOf',
  'oneOf',
  'allOf',
  'enum',
  'const',
  '$ref',
])

function isEnumLike(name: string | undefined): boolean {
  return name === 'enum' || name === 'const'
}

/** No value fits two of them: each has a type of its own, or each is one value. */
function excludeEachOther(schemas: readonly Json[]): boolean {
  const marks = schemas.map((schema) => {
    if (!isObject(schema)) return undefined
    if (schema['const'] !== undefined) return `=${JSON.stringify(schema['const'])}`
    return typeof schema['type'] === 'string' ? schema['type'].replace('integer', 'number') : undefined
  })
  const values = marks.filter((mark) => mark?.startsWith('='))
  return (
    marks.every((mark) => mark !== undefined) && new Set(marks).size === marks.length && [0, marks.length].includes(values.length)
  )
}

/**
 * An object of which nothing is said may have any properties; the compiler would take it for one without. An object with names
 * has no others: the compiler would let a name that is declared come again as an additional one, with any value.
 */
function additionalOf(schema: JsonObject): JsonObject {
  if (isObject(schema['properties']) && Object.keys(schema['properties']).length > 0) return { additionalProperties: false }
  return schema['type'] === 'object' && schema['additionalProperties'] === undefined ? { additionalProperties: true } : {}
}

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function fail(reason: string): never {
  throw refusal(reason)
}
