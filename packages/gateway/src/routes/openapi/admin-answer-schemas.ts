/** What the admin routes take and answer, as schemas for the OpenAPI document. A test holds real answers against every one of them. */
import { errorCodes, moduleNames, tiers } from '@quiver/protocol'
import { z } from 'zod'
import { jobStates } from '../../publish/job-list.ts'
import { eventSchema } from '../../publish/s3-event.ts'
import { aliasSchema, canarySchema, publishSchema, rollbackSchema, versionSchema } from '../admin/admin-schema.ts'
import { loadAdapterSchema, unloadAdapterSchema } from '../admin/engine-schema.ts'

const count = z.int().nonnegative()
const digest = z.string().describe('sha256 of the content, in hex.')
const time = z.string().describe('ISO 8601, UTC.')
const code = z.enum(errorCodes)

const version = {
  version: count,
  digest,
  base: z.string().describe('The base model that it fits.'),
  rank: count,
  modules: z.array(z.enum(moduleNames)),
  bytes: count.describe('Size of the weights.'),
  created_at: time,
  tenant: z.string().optional().describe('To whom alone it is visible.'),
  metadata: z.record(z.string(), z.string()).optional(),
  source: z.record(z.string(), z.string()).optional().describe('Where its files came from.'),
  has_chat_template: z.boolean(),
}

const alias = z.object({
  version: count,
  previous: z.array(count).describe('What it named before, the last one last; `rollback` goes back there.'),
  canary: z.object({ version: count, share_percent: z.number() }).optional(),
})

const summary = {
  name: z.string(),
  versions: count.describe('How many.'),
  latest: count.nullable(),
  aliases: z.record(z.string(), alias),
  pinned: z.boolean(),
  retired: z.boolean().describe('Whether all its versions are out of service.'),
  fault: z.string().optional().describe('Why nothing of the name is served.'),
}

const failure = z.object({ at: time, code, message: z.string() })
const presence = z.object({
  worker: z.string(),
  version: count,
  state: z.enum(['absent', 'resident', 'arriving', 'quarantined']),
  tier: z.enum(tiers).optional().describe('The fastest that it is in.'),
  bytes: count.optional(),
  leases: count.optional().describe('Requests that keep it there.'),
  pinned: z.boolean().optional(),
  slot: count.optional(),
  cause: code.optional().describe('Of a quarantine.'),
  remaining_ms: count.optional().describe('Of a quarantine.'),
})

const file = z.string().describe('The file.')

const job = z.object({
  id: z.string(),
  kind: z.literal('drop'),
  name: z.string(),
  state: z.enum(jobStates),
  reasons: z.array(z.string()),
  version: count.optional(),
  digest: digest.optional(),
  attempts: count,
  createdAt: time,
  startedAt: time.optional(),
  finishedAt: time.optional(),
})

const event = z.object({
  id: z.string(),
  at: time,
  actor: z.object({ tenant: z.string(), keyId: z.string().optional() }),
  action: z.string(),
  subject: z.string().describe("The adapter's name."),
  before: z.record(z.string(), z.unknown()),
  after: z.record(z.string(), z.unknown()),
})
const cursor = z.string().nullable().describe('Of the next page; null on the last one.')

export const adminBodySchemas = {
  AdminError: z.object({ error: z.string(), error_type: code }),
  PublishRequest: publishSchema,
  PublishedAdapter: z.object({
    name: z.string(),
    ...version,
    aliases: z.array(z.string()).describe('Of those that were asked for, the ones that mean this version now.'),
    pinned: z.boolean(),
    is_new: z.boolean().describe('Whether this request made the version, rather than finding it.'),
  }),
  UploadForm: z.object({
    'adapter_config.json': file,
    'adapter_model.safetensors': file,
    'chat_template.jinja': file.optional(),
    alias: z.string().optional().describe('Several are joined by commas.'),
    pin: z.enum(['true', 'false']).optional(),
    metadata: z.string().optional().describe('JSON.'),
    expected: z.string().optional(),
    tenant: z.string().optional(),
  }),
  UploadSession: z.object({ session: z.string(), next: z.string().describe('Where to send the weights, within an hour.') }),
  AdapterPage: z.object({ adapters: z.array(z.object(summary)), cursor }),
  AdapterState: z.object({
    ...summary,
    versions: z.array(z.object({ ...version, retired: z.string().nullable().describe('Since when it is out of service.') })),
    residency: z.array(presence).nullable().describe('Null while the workers do not say.'),
    last_errors: z.array(failure).describe('Why it could not be published lately, by this gateway; the newest first.'),
    problems: z
      .array(z.object({ version: count, error: z.string(), error_type: code }))
      .optional()
      .describe('Why workers could not do what was asked; a pin is tried again.'),
  }),
  AliasRequest: aliasSchema,
  CanaryRequest: canarySchema,
  RollbackRequest: rollbackSchema,
  VersionRequest: versionSchema,
  JobList: z.object({ jobs: z.array(job) }),
  AuditPage: z.object({ events: z.array(event), cursor }),
  ProblemList: z.object({ problems: z.array(z.object({ key: z.string(), reason: z.string() })) }),
  WorkerList: z.object({
    workers: z.array(
      z.object({
        id: z.string().nullable().describe('Of its process: new with every start; null before it was ever reached.'),
        address: z.string(),
        base: z.string().nullable().describe('Its base model.'),
        state: z
          .enum(['connecting', 'ready', 'draining', 'silent', 'stalled', 'mismatched', 'ejected'])
          .describe('Only one that is ready gets requests.'),
        running: z.int(),
        waiting: z.int(),
        speed: z.object({ prompt_tokens_per_second: z.int() }).nullable(),
        slots: z
          .array(
            z.object({
              slot: z.int(),
              state: z.enum(['free', 'loading', 'resident']),
              digest: z.string().optional(),
              leases: z.int().optional().describe('Running sequences that compute with it.'),
            }),
          )
          .nullable(),
        ram_bytes: z.int().nullable(),
        disk_bytes: z.int().nullable(),
      }),
    ),
  }),
  DrainedWorker: z.object({ id: z.string(), state: z.literal('draining') }),
  PlacementExplanation: z.object({
    adapter: z.string().optional(),
    digest: z.string().optional(),
    base: z.string(),
    choice: z.object({ address: z.string(), placement: z.enum(['resident', 'ram', 'disk', 'cold', 'spill']) }),
    candidates: z.array(
      z.object({
        address: z.string(),
        presence: z.enum(['device', 'ram', 'disk', 'arriving', 'absent']),
        predicted_ms: z.number().describe('The sum of the terms; the least is best.'),
        terms: z.object({
          prefill_ms: z.number().describe('Until the prompts before it and its own are computed.'),
          place_ms: z.number().describe('Until the batch has a place.'),
          load_ms: z.number().describe('Until the adapter is in the device, where that takes longer.'),
          harm_ms: z.number().describe('What others lose by the adapter that makes way.'),
        }),
        above_load_bound: z.boolean().describe('It has more than its share and takes no newcomer by choice.'),
      }),
    ),
  }),
  BucketEvent: eventSchema,
  NoticedDrops: z.object({ looking_at: z.array(z.string()).describe('Names of adapters whose folders are looked at now.') }),
  LoadAdapterRequest: loadAdapterSchema,
  UnloadAdapterRequest: unloadAdapterSchema,
  VllmError: z.object({
    error: z.object({ message: z.string(), type: z.string(), param: z.null(), code: z.int().describe('The status.') }),
  }),
  SglangAnswer: z.object({
    success: z.boolean(),
    error_message: z.string(),
    loaded_adapters: z
      .record(z.string(), z.object({ lora_name: z.string(), lora_path: z.string(), pinned: z.boolean() }))
      .describe('The adapter that was loaded, and not all that there are.'),
  }),
} as const satisfies Record<string, z.ZodType>
