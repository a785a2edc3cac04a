/** What the OpenAPI document says of the routes of administration. */
import type { ErrorCode } from '@quiver/protocol'
import type { BodyName, RouteDescription } from './route-table.ts'

const name = { name: "The adapter's name, its `/` written as `%2F`." }
const state = [{ type: 'application/json', body: 'AdapterState' }] as const
const storeFailures: readonly ErrorCode[] = [
  'invalid_request',
  'adapter_not_found',
  'forbidden',
  'source_unavailable',
  'internal',
]
const changeFailures: readonly ErrorCode[] = [
  ...storeFailures,
  'conflict',
  'invalid_parameters',
  'unsupported_media_type',
  'too_large',
]
const publishFailures: readonly ErrorCode[] = [
  ...changeFailures,
  'adapter_invalid',
  'not_ready',
  'overloaded',
  'deadline_exceeded',
]
const orderFailures: readonly ErrorCode[] = [
  ...changeFailures,
  'adapter_invalid',
  'overloaded',
  'worker_lost',
  'deadline_exceeded',
]
const version = 'Only this version.'

type Described = Omit<RouteDescription, 'family'>

/** A route of one adapter, `POST` unless said otherwise, that answers what is so then. */
function ofAdapter(
  what: string,
  summary: string,
  more: Partial<Described> & { readonly sent?: readonly [BodyName, object] } = {},
): Described {
  const { sent, ...rest } = more
  return {
    method: 'post',
    path: `/admin/adapters/{name}${what}`,
    summary,
    pathParameters: name,
    ...(sent === undefined ? {} : { request: { body: sent[0], example: sent[1] } }),
    answers: state,
    failures: changeFailures,
    ...rest,
  }
}

const publishing: readonly Described[] = [
  {
    method: 'post',
    path: '/admin/adapters',
    summary: 'Publishes an adapter from the hub, a bucket, a folder or the store',
    description: '201 when it is a new version; 200 when the name has this content already, as the version that it then is.',
    request: {
      body: 'PublishRequest',
      example: { name: 'acme/sql', source: { type: 'local', path: '/adapters/sql' }, alias: 'latest', metadata: { run: '17' } },
    },
    answers: [{ type: 'application/json', body: 'PublishedAdapter' }],
    isCreating: true,
    failures: publishFailures,
  },
  {
    ...ofAdapter('/upload', 'Publishes an adapter that is sent as a form', { sent: ['UploadForm', {}] }),
    method: 'put',
    description: 'Each file may be named by its field or by its file name. Fields come in any order.',
    queryParameters: { base: 'Which of the served base models it shall fit; the usual one without it.' },
    requestType: 'multipart/form-data',
    answers: [{ type: 'application/json', body: 'PublishedAdapter' }],
    isCreating: true,
    failures: publishFailures,
  },
  {
    ...ofAdapter('/upload/{file}', 'Publishes an adapter that is sent file by file'),
    method: 'put',
    description:
      'First `adapter_config.json`, which answers a session; then `adapter_model.safetensors` with `?session=` and what else a form has as fields.',
    pathParameters: { ...name, file: '`adapter_config.json` or `adapter_model.safetensors`.' },
    queryParameters: {
      session: 'Of the config.',
      base: 'Which of the served base models it shall fit; the usual one without it.',
      ...{
        alias: 'As in a form.',
        pin: 'As in a form.',
        metadata: 'As in a form.',
        expected: 'As in a form.',
        tenant: 'As in a form.',
      },
    },
    requestType: 'application/octet-stream',
    answers: [
      { type: 'application/json', body: 'UploadSession' },
      { type: 'application/json', body: 'PublishedAdapter' },
    ],
    isCreating: true,
    failures: ['not_found', ...publishFailures],
  },
]

const reading: readonly Described[] = [
  {
    method: 'get',
    path: '/admin/adapters',
    summary: 'The adapters, page by page',
    queryParameters: {
      prefix: 'Only names that start with it.',
      limit: '1 to 1000; 100 without it.',
      cursor: 'Of the page before.',
      retired: '`true`: also names of which nothing is served any more.',
    },
    answers: [{ type: 'application/json', body: 'AdapterPage' }],
    failures: ['invalid_request', 'invalid_parameters', 'internal'],
  },
  ofAdapter('', 'Everything about one adapter, and where its versions are', {
    method: 'get',
    description: 'Its `/` may also stand as it is here.',
    failures: storeFailures,
  }),
]

const changing: readonly Described[] = [
  ofAdapter('', 'Takes an adapter, or one version of it, out of service', {
    method: 'delete',
    description: 'New requests are told that there is none; running ones finish. Its bytes are deleted a day later.',
    queryParameters: { version },
  }),
  ofAdapter('/restore', 'Takes back a deletion', { sent: ['VersionRequest', { version: 1 }] }),
  ofAdapter('/aliases/{alias}', 'Lets an alias mean a version', {
    method: 'put',
    pathParameters: { ...name, alias: 'Such as `stable`.' },
    sent: ['AliasRequest', { version: 2, expected: 1 }],
  }),
  ofAdapter('/aliases/{alias}', 'Removes an alias', {
    method: 'delete',
    pathParameters: { ...name, alias: 'Such as `stable`.' },
    queryParameters: { expected: 'What it names now, as far as the caller knows.' },
  }),
  ofAdapter('/canary', "Lets a version answer a share of an alias's users", {
    method: 'put',
    sent: ['CanaryRequest', { version: 2, share_percent: 5 }],
  }),
  ofAdapter('/canary', 'Ends a canary', {
    method: 'delete',
    queryParameters: { alias: '`latest` without it.', expected: 'What it names now, as far as the caller knows.' },
  }),
  ofAdapter('/rollback', 'Lets an alias mean what it meant before', {
    sent: ['RollbackRequest', { alias: 'latest', expected: 2 }],
  }),
]

const ordering: readonly Described[] = [
  ofAdapter('/pin', 'Keeps an adapter in the memory of every worker', { failures: orderFailures }),
  ofAdapter('/unpin', 'Lets it go again', { failures: orderFailures }),
  ofAdapter('/prefetch', 'Brings an adapter into the memory of every worker', {
    description: 'Answered when it is there.',
    sent: ['VersionRequest', { version: 1 }],
    failures: orderFailures,
  }),
  ofAdapter('/lift', "Ends an adapter's quarantine", { sent: ['VersionRequest', { version: 1 }], failures: orderFailures }),
]

const logs: readonly Described[] = [
  {
    method: 'get',
    path: '/admin/jobs',
    summary: 'Publications from the drop folder, the newest first',
    queryParameters: { limit: '1 to 500; 100 without it.' },
    answers: [{ type: 'application/json', body: 'JobList' }],
    failures: ['invalid_parameters', 'source_unavailable'],
  },
  {
    method: 'get',
    path: '/admin/audit',
    summary: 'Who changed what, the newest first',
    queryParameters: { limit: '1 to 500; 100 without it.', cursor: 'Of the page before.', name: 'Only changes of this adapter.' },
    answers: [{ type: 'application/json', body: 'AuditPage' }],
    failures: ['invalid_request', 'invalid_parameters', 'source_unavailable'],
  },
  {
    method: 'get',
    path: '/admin/problems',
    summary: 'Objects of the catalogue that cannot be used',
    answers: [{ type: 'application/json', body: 'ProblemList' }],
    failures: [],
  },
  {
    method: 'post',
    path: '/admin/events/s3',
    summary: 'Says that something came to the drop folder',
    description: 'For the webhook of a bucket. Answered at once; what comes of it is told by `/admin/jobs`.',
    request: {
      body: 'BucketEvent',
      example: { Records: [{ s3: { bucket: { name: 'models' }, object: { key: 'drop/acme/sql/adapter_config.json' } } }] },
    },
    answers: [{ type: 'application/json', body: 'NoticedDrops' }],
    failures: ['invalid_request', 'unsupported_media_type', 'too_large', 'not_found'],
  },
]

const workers: readonly Described[] = [
  {
    method: 'get',
    path: '/admin/workers',
    summary: 'Lists the workers that this gateway knows',
    description: 'A worker that does not answer within two seconds is listed without its slots and bytes.',
    answers: [{ type: 'application/json', body: 'WorkerList' }],
    failures: [],
  },
  {
    method: 'post',
    path: '/admin/workers/{id}/drain',
    summary: 'Takes a worker out of service',
    description:
      'Every gateway stops sending it requests; what it has, and what comes until then, is finished. It is back when it is restarted.',
    pathParameters: { id: 'The id of its process, as the list has it.' },
    answers: [{ type: 'application/json', body: 'DrainedWorker' }],
    failures: ['not_found', 'worker_lost'],
  },
  {
    method: 'get',
    path: '/admin/explain',
    summary: 'Says which worker a request would go to now, and why',
    queryParameters: { adapter: 'Name, alias or version of an adapter; without it, the base model alone.' },
    answers: [{ type: 'application/json', body: 'PlacementExplanation' }],
    failures: ['invalid_request', 'adapter_not_found', 'not_ready'],
  },
]

const load = { lora_name: 'sql', lora_path: '/adapters/sql' }
const engines = (
  [
    ['vllm', '/v1', '`text/plain` as in vLLM'],
    ['sglang', '', 'as in SGLang'],
  ] as const
).flatMap(([family, prefix, manner]): RouteDescription[] => {
  const answers =
    family === 'vllm' ? ([{ type: 'text/plain' }] as const) : ([{ type: 'application/json', body: 'SglangAnswer' }] as const)
  const common = { method: 'post', family, answers, description: `Answered in ${manner}.` } as const
  const failures: readonly ErrorCode[] = [
    'invalid_request',
    'adapter_not_found',
    'adapter_invalid',
    'conflict',
    'forbidden',
    'internal',
  ]
  return [
    {
      ...common,
      path: `${prefix}/load_lora_adapter`,
      summary: 'Publishes an adapter',
      request: { body: 'LoadAdapterRequest', example: load },
      failures: [...failures, 'not_ready', 'overloaded', 'source_unavailable'],
    },
    {
      ...common,
      path: `${prefix}/unload_lora_adapter`,
      summary: 'Takes an adapter out of service',
      request: { body: 'UnloadAdapterRequest', example: { lora_name: 'sql' } },
      failures: [...failures, 'source_unavailable'],
    },
  ]
})

export const adminRouteTable: readonly RouteDescription[] = [
  ...[...publishing, ...reading, ...changing, ...ordering, ...workers, ...logs].map((route) => ({
    ...route,
    family: 'admin' as const,
  })),
  ...engines,
]
