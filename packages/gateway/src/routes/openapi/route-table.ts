/** What the OpenAPI document says of each public route. A test holds it against the routes of the app. */
import type { ErrorCode } from '@quiver/protocol'
import type { z } from 'zod'
import { embedSchema } from '../embed.ts'
import { generateBodySchema } from '../generate-schema.ts'
import { chatSchema } from '../openai/chat-schema.ts'
import { completionSchema } from '../openai/completion-schema.ts'
import { embeddingsSchema } from '../openai/embeddings-schema.ts'
import { tokenizeSchema } from '../tokenize.ts'
import { adminBodySchemas } from './admin-answer-schemas.ts'
import { adminRouteTable } from './admin-route-table.ts'
import {
  embedAnswer,
  generateAnswer,
  generateEvent,
  loraxError,
  modelCard,
  modelList,
  openaiError,
  serverInfo,
  tokenizeAnswer,
} from './answer-schemas.ts'
import { chatAnswer, chatChunk, completionAnswer, completionChunk, embeddingsAnswer } from './openai-answer-schemas.ts'

/** Every body by the name that the document gives it. Those of requests are the very ones that validate. */
export const bodySchemas = {
  GenerateRequest: generateBodySchema,
  GenerateAnswer: generateAnswer,
  GenerateEvent: generateEvent,
  EmbedRequest: embedSchema,
  EmbedAnswer: embedAnswer,
  TokenizeRequest: tokenizeSchema,
  TokenizeAnswer: tokenizeAnswer,
  ServerInfo: serverInfo,
  LoraxError: loraxError,
  CompletionRequest: completionSchema,
  CompletionAnswer: completionAnswer,
  CompletionChunk: completionChunk,
  ChatRequest: chatSchema,
  ChatAnswer: chatAnswer,
  ChatChunk: chatChunk,
  EmbeddingsRequest: embeddingsSchema,
  EmbeddingsAnswer: embeddingsAnswer,
  ModelList: modelList,
  ModelCard: modelCard,
  OpenaiError: openaiError,
  ...adminBodySchemas,
} as const satisfies Record<string, z.ZodType>
export type BodyName = keyof typeof bodySchemas

export interface RouteDescription {
  readonly method: 'get' | 'post' | 'put' | 'delete'
  /** As OpenAPI writes it: `/v1/models/{id}`. */
  readonly path: string
  readonly family: 'lorax' | 'openai' | 'admin' | 'vllm' | 'sglang'
  readonly summary: string
  readonly description?: string
  /** What stands in the path, by name. */
  readonly pathParameters?: Readonly<Record<string, string>>
  /** What may stand behind the path, by name. */
  readonly queryParameters?: Readonly<Record<string, string>>
  readonly request?: { readonly body: BodyName; readonly example: object }
  /** JSON without it. Of `application/octet-stream`, which has no fields, there is no `request`. */
  readonly requestType?: 'multipart/form-data' | 'application/octet-stream'
  /** Whether it may also answer 201, with the same body. */
  readonly isCreating?: true
  /** Of status 200, by content type. Without any, the answer has no body. */
  readonly answers?: readonly {
    readonly type: 'application/json' | 'text/event-stream' | 'text/html' | 'text/plain'
    readonly body?: BodyName
    readonly isList?: 'of one' | 'of any'
  }[]
  readonly failures: readonly ErrorCode[]
}

const bodyFailures: readonly ErrorCode[] = ['invalid_request', 'too_large', 'unsupported_media_type', 'invalid_parameters']
const runFailures: readonly ErrorCode[] = [
  ...(['adapter_not_found', 'adapter_invalid', 'adapter_unavailable', 'source_unavailable', 'overloaded', 'not_ready'] as const),
  'adapter_arriving',
  ...(['draining', 'worker_lost', 'deadline_exceeded', 'internal'] as const),
]

const question = { inputs: 'How many users are there?', parameters: { adapter_id: 'text-to-sql', max_new_tokens: 32 } }
const inEvents = 'In a stream an error is the last event, and the status is 200.'

const generateRoutes = (
  [
    ['/', 'Generates text; with `stream` as events', { ...question, stream: false }],
    ['/invocations', 'The same as `POST /`, where SageMaker asks', { ...question, stream: false }],
    ['/generate', 'Generates text', question],
    ['/generate_stream', 'Generates text, token by token', question],
  ] as const
).map(([path, summary, example]): RouteDescription => {
  const whole = { type: 'application/json', body: 'GenerateAnswer' } as const
  const events = { type: 'text/event-stream', body: 'GenerateEvent' } as const
  const compat = [{ ...whole, isList: 'of one' }, events] as const
  return {
    method: 'post',
    path,
    family: 'lorax',
    summary,
    ...(path === '/generate' ? {} : { description: inEvents }),
    request: { body: 'GenerateRequest', example },
    answers: path === '/generate' ? [whole] : path === '/generate_stream' ? [events] : compat,
    failures: [...bodyFailures, ...runFailures],
  }
})

const healthRoutes = ['/', '/health', '/ping'].map(
  (path): RouteDescription => ({
    method: 'get',
    path,
    family: 'lorax',
    summary: 'Whether a request would be served now',
    failures: ['not_ready'],
  }),
)

const messages = [{ role: 'user', content: 'Name a colour.' }]

const openaiRoutes: readonly RouteDescription[] = [
  {
    method: 'post',
    path: '/v1/chat/completions',
    family: 'openai',
    summary: 'Answers a conversation',
    description: `The events of a stream end with \`[DONE]\`. ${inEvents}`,
    request: { body: 'ChatRequest', example: { model: 'shout', messages, max_tokens: 32 } },
    answers: [
      { type: 'application/json', body: 'ChatAnswer' },
      { type: 'text/event-stream', body: 'ChatChunk' },
    ],
    failures: [...bodyFailures, ...runFailures],
  },
  {
    method: 'post',
    path: '/v1/completions',
    family: 'openai',
    summary: 'Goes on with a text',
    description: `The events of a stream end with \`[DONE]\`. ${inEvents}`,
    request: { body: 'CompletionRequest', example: { model: '', prompt: '1, 2, 3, 4,', max_tokens: 8, temperature: 0 } },
    answers: [
      { type: 'application/json', body: 'CompletionAnswer' },
      { type: 'text/event-stream', body: 'CompletionChunk' },
    ],
    failures: [...bodyFailures, ...runFailures],
  },
  {
    method: 'post',
    path: '/v1/embeddings',
    family: 'openai',
    summary: 'The mean of the hidden states of texts',
    description: "Of the model's last layer after its norm, over all tokens of a text, with the adapter applied; not normalised.",
    request: {
      body: 'EmbeddingsRequest',
      example: { model: 'text-to-sql', input: ['How many users are there?', 'List all users.'] },
    },
    answers: [{ type: 'application/json', body: 'EmbeddingsAnswer' }],
    failures: [...bodyFailures, ...runFailures],
  },
  {
    method: 'get',
    path: '/v1/models',
    family: 'openai',
    summary: 'The base model and every adapter',
    answers: [{ type: 'application/json', body: 'ModelList' }],
    failures: ['not_ready'],
  },
  {
    method: 'get',
    path: '/v1/models/{id}',
    family: 'openai',
    summary: 'The base model or one adapter',
    pathParameters: { id: 'The id as the list has it; it may have slashes.' },
    answers: [{ type: 'application/json', body: 'ModelCard' }],
    failures: ['adapter_not_found', 'not_ready'],
  },
]

const otherRoutes: readonly RouteDescription[] = [
  {
    method: 'post',
    path: '/embed',
    family: 'lorax',
    summary: 'The mean of the hidden states of a text',
    description: 'The same numbers as `/v1/embeddings` gives.',
    request: { body: 'EmbedRequest', example: { inputs: 'Hi', parameters: { adapter_id: 'text-to-sql' } } },
    answers: [{ type: 'application/json', body: 'EmbedAnswer' }],
    failures: [...bodyFailures, ...runFailures],
  },
  ...['/classify', '/classify_batch'].map(
    (path): RouteDescription => ({
      method: 'post',
      path,
      family: 'lorax',
      summary: 'Refused: a model that generates does not classify',
      failures: ['adapter_unavailable'],
    }),
  ),
  {
    method: 'post',
    path: '/tokenize',
    family: 'lorax',
    summary: 'The tokens of a text',
    request: { body: 'TokenizeRequest', example: { inputs: 'Hi', add_special_tokens: false } },
    answers: [{ type: 'application/json', body: 'TokenizeAnswer' }],
    failures: [...bodyFailures, 'overloaded', 'not_ready', 'draining', 'internal'],
  },
  {
    method: 'get',
    path: '/info',
    family: 'lorax',
    summary: 'What is served, and its limits',
    answers: [{ type: 'application/json', body: 'ServerInfo' }],
    failures: ['not_ready'],
  },
  {
    method: 'get',
    path: '/startup',
    family: 'lorax',
    summary: 'Generates one token, to see whether that works',
    description: 'Every failure is 500.',
    failures: ['internal'],
  },
  {
    method: 'get',
    path: '/metrics',
    family: 'lorax',
    summary: 'Counts and times for Prometheus',
    description: 'The same as JSON for who accepts `application/json`.',
    answers: [{ type: 'text/plain' }, { type: 'application/json', isList: 'of any' }],
    failures: [],
  },
  ...['/openapi.json', '/api-doc/openapi.json'].map(
    (path): RouteDescription => ({
      method: 'get',
      path,
      family: 'lorax',
      summary: 'This document',
      answers: [{ type: 'application/json' }],
      failures: [],
    }),
  ),
  {
    method: 'get',
    path: '/docs',
    family: 'lorax',
    summary: 'This document as a page to read',
    answers: [{ type: 'text/html' }],
    failures: [],
  },
]

export const routeTable: readonly RouteDescription[] = [
  ...generateRoutes,
  ...openaiRoutes,
  ...otherRoutes,
  ...healthRoutes,
  ...adminRouteTable,
]
