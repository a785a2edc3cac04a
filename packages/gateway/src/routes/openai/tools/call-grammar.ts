/** Which text a forced call is. */
import { type Grammar, limits, ServingError } from '@quiver/protocol'

export interface CallableFunction {
  readonly name: string
  /** A JSON schema; absent: no arguments. */
  readonly parameters?: Readonly<Record<string, unknown>> | undefined
}

/**
 * The form of a call of one of the functions, or of a list of 1 to `limits.forcedCalls` such calls: `{"name": …, "arguments": {…}}`, in
 * this order, with arguments that fit the function's schema.
 * @throws ServingError `tool_error` for parameters that are no object's schema, or schemas too long together
 */
export function callGrammar(functions: readonly CallableFunction[], { isList }: { readonly isList: boolean }): Grammar {
  const shared: Record<string, unknown> = {}
  const calls = functions.map((one, at) => callSchema(one, `tool${at}`, shared))
  const call = calls.length === 1 ? calls[0] : { anyOf: calls }
  const root = isList ? { type: 'array', items: call, minItems: 1, maxItems: limits.forcedCalls } : call
  const schema = JSON.stringify(Object.keys(shared).length === 0 ? root : { ...root, $defs: shared })
  if (Buffer.byteLength(schema) > limits.grammarBytes) {
    throw new ServingError(
      'tool_error',
      `Tool error: to force a call, the parameters of \`tools\` must have at most ${limits.grammarBytes} bytes of JSON together`,
      { param: 'tools' },
    )
  }
  return { kind: 'json_schema', schema }
}

function callSchema(one: CallableFunction, key: string, shared: Record<string, unknown>): object {
  const schema = objectSchema(one)
  const moved = withRefsBelow(schema, `#/$defs/${key}`)
  // References go from the schema's own root, which is somewhere else here.
  const hasRefs = JSON.stringify(moved) !== JSON.stringify(schema)
  if (hasRefs) shared[key] = moved
  return {
    type: 'object',
    properties: { name: { const: one.name }, arguments: hasRefs ? { $ref: `#/$defs/${key}` } : schema },
    required: ['name', 'arguments'],
    additionalProperties: false,
  }
}

function objectSchema({ name, parameters }: CallableFunction): Readonly<Record<string, unknown>> {
  if (parameters === undefined) return { type: 'object', properties: {}, additionalProperties: false }
  const { type } = parameters
  if (type === 'object') return parameters
  if (type === undefined && !['anyOf', 'oneOf', 'allOf', '$ref', 'enum', 'const'].some((rule) => rule in parameters)) {
    return { ...parameters, type: 'object' }
  }
  throw new ServingError('tool_error', `Tool error: the parameters of the tool ${name} must have the type object`, {
    param: 'tools',
  })
}

function withRefsBelow<T>(value: T, root: string): T {
  if (Array.isArray(value)) return value.map((one: unknown) => withRefsBelow(one, root)) as T
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, one]): [string, unknown] =>
      key === '$ref' && typeof one === 'string' && one.startsWith('#')
        ? [key, root + one.slice(1)]
        : [key, withRefsBelow(one, root)],
    ),
  ) as T
}
