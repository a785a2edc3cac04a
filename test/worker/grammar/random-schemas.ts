/** Small random JSON schemas, and whether a value fits one: written apart from the worker, to judge what it lets through. */
type Schema = Record<string, unknown>

const names = ['a', 'name', 'is it', 'größe']

export function randomSchema(random: () => number, depth = 2): Schema {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T
  const whole = (most: number) => Math.floor(random() * (most + 1))
  const leaves: readonly (() => Schema)[] = [
    () => ({ type: 'boolean' }),
    () => ({ type: 'null' }),
    () => ({ type: 'integer', ...(random() < 0.5 ? { minimum: whole(5), maximum: 6 + whole(3) } : {}) }),
    () => ({ type: 'number' }),
    () => ({ type: 'integer', exclusiveMinimum: whole(4), exclusiveMaximum: 6 + whole(3) }),
    () => ({ type: 'integer', minimum: whole(1) }),
    () => ({ type: 'string', ...(random() < 0.4 ? { minLength: whole(2), maxLength: 2 + whole(4) } : {}) }),
    () => ({ type: 'string', pattern: pick(['^[a-c]{1,3}$', '^\\d+(-x)?$', '^.{2,4}$', '^[^a]+$', '^\\S\\w$']) }),
    () => ({ enum: ['yes', 'no "quoted"', 3, null, [1, { b: 'c' }]].slice(0, 1 + whole(4)) }),
    () => ({ const: pick<unknown>(['fixed', 17, true, { k: [] }]) }),
  ]
  if (depth === 0 || random() < 0.4) return pick(leaves)()
  const inner = () => randomSchema(random, depth - 1)
  const nodes: readonly (() => Schema)[] = [
    () => ({ type: 'array', items: inner(), minItems: whole(1), maxItems: 1 + whole(2) }),
    () => ({ type: 'array', prefixItems: [inner(), inner()], items: false, minItems: 2 }),
    () => ({ anyOf: [inner(), inner()] }),
    () => ({ type: ['string', 'null'] }),
    () => {
      const properties = Object.fromEntries(names.slice(0, 1 + whole(3)).map((name) => [name, inner()]))
      const required = Object.keys(properties).filter(() => random() < 0.6)
      return { type: 'object', properties, required, ...(random() < 0.2 ? { additionalProperties: { type: 'integer' } } : {}) }
    },
  ]
  return pick(nodes)()
}

export function fits(value: unknown, schema: Schema): boolean {
  if (Array.isArray(schema['anyOf'])) return schema['anyOf'].some((one: Schema) => fits(value, one))
  if ('const' in schema) return same(value, schema['const'])
  if (Array.isArray(schema['enum'])) return schema['enum'].some((one) => same(value, one))
  const types = [schema['type']].flat()
  if (!types.some((type) => hasType(value, type))) return false
  if (typeof value === 'number') {
    const isInside = value !== schema['exclusiveMinimum'] && value !== schema['exclusiveMaximum']
    return (
      isInside &&
      within(value, schema['minimum'], schema['maximum']) &&
      within(value, schema['exclusiveMinimum'], schema['exclusiveMaximum'])
    )
  }
  if (typeof value === 'string') return stringFits(value, schema)
  if (Array.isArray(value)) return arrayFits(value, schema)
  if (typeof value === 'object' && value !== null) return objectFits(value as Record<string, unknown>, schema)
  return true
}

function hasType(value: unknown, type: unknown): boolean {
  if (type === 'integer') return Number.isInteger(value)
  if (type === 'null') return value === null
  if (type === 'array') return Array.isArray(value)
  return typeof value === type && value !== null && !Array.isArray(value)
}

function within(value: number, least: unknown, most: unknown): boolean {
  return !(typeof least === 'number' && value < least) && !(typeof most === 'number' && value > most)
}

function stringFits(value: string, { minLength, maxLength, pattern }: Schema): boolean {
  return within([...value].length, minLength, maxLength) && (typeof pattern !== 'string' || new RegExp(pattern, 'u').test(value))
}

function arrayFits(value: readonly unknown[], { items, prefixItems = [], minItems, maxItems }: Schema): boolean {
  const first = prefixItems as readonly Schema[]
  const rest = value.slice(first.length)
  return (
    within(value.length, minItems, maxItems) &&
    value.slice(0, first.length).every((one, at) => fits(one, first[at] ?? {})) &&
    (items === false ? rest.length === 0 : rest.every((one) => items === undefined || fits(one, items as Schema)))
  )
}

function objectFits(value: Record<string, unknown>, { properties = {}, required = [], additionalProperties }: Schema): boolean {
  const known = properties as Record<string, Schema>
  return (
    (required as readonly string[]).every((name) => name in value) &&
    Object.entries(value).every(([name, one]) => {
      const schema = known[name] ?? additionalProperties
      // Objects are closed unless they say otherwise.
      return schema !== undefined && fits(one, schema as Schema)
    })
  )
}

function same(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other)
}
