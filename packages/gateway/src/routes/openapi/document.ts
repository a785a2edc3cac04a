/** The OpenAPI 3.1 document, made from the schemas that validate requests and from the tables that say which error has which status. */
import { type ErrorCode, ServingError } from '@quiver/protocol'
import { z } from 'zod'
import { routeAccess } from '../../auth/route-rights.ts'
import { toAdminError } from '../admin/admin-envelope.ts'
import { toSglangError, toVllmError } from '../admin/engine-envelope.ts'
import { toLoraxError } from '../lorax-envelope.ts'
import { toOpenaiError } from '../openai/envelope.ts'
import { type BodyName, bodySchemas, type RouteDescription, routeTable } from './route-table.ts'

/** A JSON schema as it stands in the document. */
export type JsonSchema = { readonly [keyword: string]: unknown }

export interface Content {
  readonly schema: JsonSchema
  readonly example?: object
}

export interface DocumentedResponse {
  readonly description: string
  readonly headers?: Readonly<Record<string, { readonly description: string; readonly schema: JsonSchema }>>
  readonly content?: Readonly<Record<string, Content>>
}

export interface Operation {
  readonly operationId: string
  readonly tags: readonly string[]
  readonly summary: string
  readonly description?: string
  readonly parameters?: readonly {
    readonly name: string
    readonly in: 'path' | 'query'
    readonly required: boolean
    readonly description: string
    readonly schema: JsonSchema
  }[]
  readonly requestBody?: { readonly required: true; readonly content: Readonly<Record<string, Content>> }
  readonly responses: Readonly<Record<string, DocumentedResponse>>
  /** Any one of these is enough; an empty one means that a server without keys wants none. */
  readonly security: readonly Readonly<Record<string, readonly string[]>>[]
}

export interface OpenapiDocument {
  readonly openapi: '3.1.1'
  readonly info: { readonly title: string; readonly version: string; readonly description: string }
  readonly servers: readonly { readonly url: string }[]
  readonly tags: readonly { readonly name: string; readonly description: string }[]
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components: {
    readonly schemas: Readonly<Record<string, JsonSchema>>
    readonly securitySchemes: Readonly<Record<string, object>>
  }
}

/** How each family's errors look. */
const errorForms = {
  lorax: { body: 'LoraxError', envelope: toLoraxError },
  openai: { body: 'OpenaiError', envelope: toOpenaiError },
  admin: { body: 'AdminError', envelope: toAdminError },
  vllm: { body: 'VllmError', envelope: toVllmError },
  sglang: { body: 'SglangAnswer', envelope: toSglangError },
} as const satisfies Record<
  RouteDescription['family'],
  { readonly body: BodyName; readonly envelope: (error: ServingError) => object }
>

const engines = { name: 'vLLM and SGLang', description: 'How those load and unload adapters. For operators and publishers.' }
/** In the order of the page. */
const tags = {
  lorax: {
    name: 'LoRAX and TGI',
    description: 'For clients of LoRAX and of TGI. Null means absent, and unknown fields are ignored.',
  },
  openai: { name: 'OpenAI', description: 'For clients of OpenAI. Null means absent, and unknown fields are ignored.' },
  admin: {
    name: 'Administration',
    description: 'For operators, and for publishers of their own adapters. Unknown fields are refused.',
  },
  vllm: engines,
  sglang: engines,
} as const

/** Wanted only by a server that has keys. */
const securitySchemes = {
  bearer: { type: 'http', scheme: 'bearer' },
  header: { type: 'apiKey', in: 'header', name: 'x-api-key' },
}

const requestId = { description: "The client's own, or one that was made.", schema: { type: 'string' } }
const retryAfter = { description: 'Seconds to wait.', schema: { type: 'integer' } }

/** @param version of this program */
export function openapiDocument(version: string): OpenapiDocument {
  const paths: Record<string, Record<string, Operation>> = {}
  for (const route of routeTable) paths[route.path] = { ...paths[route.path], [route.method]: operation(route) }
  return {
    openapi: '3.1.1',
    info: {
      title: 'Quiver',
      version,
      description: 'One base model with many LoRA adapters, for clients of LoRAX, TGI and OpenAI.',
    },
    servers: [{ url: '/' }],
    tags: [...new Set<{ readonly name: string; readonly description: string }>(Object.values(tags))],
    paths,
    components: {
      schemas: Object.fromEntries(Object.entries(bodySchemas).map(([name, schema]) => [name, jsonSchema(schema)])),
      securitySchemes,
    },
  }
}

/** What may be sent: a field with a default or a null is not required, and more fields than these are allowed. */
function jsonSchema(schema: z.ZodType): JsonSchema {
  const { $schema, ...rest } = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' })
  return rest
}

function operation(route: RouteDescription): Operation {
  const { method, path, summary, description, isCreating } = route
  const parameters = parametersOf(route)
  const body = requestBody(route)
  return {
    operationId: [method, ...path.split(/[^A-Za-z0-9]+/).filter((part) => part !== '')].join('_'),
    tags: [tags[route.family].name],
    summary,
    ...(description === undefined ? {} : { description }),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(body === undefined ? {} : { requestBody: body }),
    responses: {
      200: success(route),
      ...(isCreating === true ? { 201: { ...success(route), description: 'It is new' } } : {}),
      ...failures(route, [...route.failures, ...keyFailures(route)]),
    },
    security: keyFailures(route).length === 0 ? [] : [{}, { bearer: [] }, { header: [] }],
  }
}

function parametersOf({ pathParameters = {}, queryParameters = {} }: RouteDescription): NonNullable<Operation['parameters']> {
  const parameters = (all: Readonly<Record<string, string>>, where: 'path' | 'query') =>
    Object.entries(all).map(([name, meaning]) => ({
      name,
      in: where,
      required: where === 'path',
      description: meaning,
      schema: { type: 'string' },
    }))
  return [...parameters(pathParameters, 'path'), ...parameters(queryParameters, 'query')]
}

function requestBody({ request, requestType }: RouteDescription): Operation['requestBody'] {
  const body = (type: string, content: Content) => ({ required: true, content: { [type]: content } }) as const
  if (requestType === 'application/octet-stream') return body(requestType, { schema: { type: 'string' } })
  if (request === undefined) return undefined
  const schema = reference(request.body)
  if (requestType !== undefined) return body(requestType, { schema })
  return body('application/json', { schema, example: request.example })
}

function success({ answers = [] }: RouteDescription): DocumentedResponse {
  const content = answers.map(({ type, body, isList }) => {
    const one = body === undefined ? { type: type.startsWith('text/') ? 'string' : 'object' } : reference(body)
    const bounds = isList === 'of one' ? { minItems: 1, maxItems: 1 } : {}
    return [type, { schema: isList === undefined ? one : { type: 'array', items: one, ...bounds } }] as const
  })
  const byType = Map.groupBy(content, ([type]) => type)
  const merged = [...byType].map(([type, all]) => {
    const schemas = all.map(([, { schema }]) => schema)
    return [type, { schema: schemas.length === 1 ? (schemas[0] ?? {}) : { anyOf: schemas } }] as const
  })
  const hasEvents = answers.some(({ type }) => type === 'text/event-stream')
  return {
    description: `The answer${hasEvents ? '. Of a stream, the schema is that of the JSON in each `data:`' : ''}`,
    ...(content.length === 0 ? {} : { headers: { 'x-request-id': requestId }, content: Object.fromEntries(merged) }),
  }
}

/** By method and path as OpenAPI writes it. */
const accessByPath = new Map([...routeAccess].map(([route, access]) => [route.replace(/:(\w+)(\{[^}]*\})?/g, '{$1}'), access]))

/** How a route without the right key fails where the server has keys, from the table that says so. */
function keyFailures({ method, path }: RouteDescription): readonly ErrorCode[] {
  const access = accessByPath.get(`${method.toUpperCase()} ${path}`)
  if (access === 'open') return []
  if (access === 'publisher' || access === 'operator') return ['unauthenticated', 'missing_right', 'not_found']
  return access === 'key' ? ['unauthenticated'] : ['unauthenticated', 'missing_right']
}

/** By status; two codes may share one. */
function failures({ family }: RouteDescription, codes: readonly ErrorCode[]): Record<string, DocumentedResponse> {
  const byStatus = Map.groupBy(
    codes.map((code) => ({ code, ...envelope(family, code) })),
    ({ status }) => status,
  )
  const body = reference(errorForms[family].body)
  const responses = [...byStatus].map(([status, errors]): [string, DocumentedResponse] => [
    String(status),
    {
      description: [...new Set(errors.map(({ code }) => code))].join(', '),
      headers: {
        'x-request-id': requestId,
        ...(errors.some((error) => error.retryAfter !== undefined) ? { 'retry-after': retryAfter } : {}),
      },
      content: { 'application/json': { schema: body, example: errors[0]?.body ?? {} } },
    },
  ])
  return Object.fromEntries(responses)
}

function envelope(family: RouteDescription['family'], code: ErrorCode) {
  const error = new ServingError(code, 'what went wrong, and what to change')
  const answered: { readonly status: number; readonly retryAfter?: number; readonly body: object } =
    errorForms[family].envelope(error)
  return answered
}

function reference(name: BodyName): JsonSchema {
  return { $ref: `#/components/schemas/${name}` }
}
