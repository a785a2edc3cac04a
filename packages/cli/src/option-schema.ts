/** What every option may be, and what it is when nobody says. */
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseBucketPlace } from '@quiver/cache/origin'
import { devices, dtypes, limits, loraModes } from '@quiver/protocol'
import { z } from 'zod'
import { parseStartAdapter } from './start-adapter.ts'

/** What the defaults and relative paths depend on. */
export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cwd: string
  readonly home: string
  /** Processors that this process may use. */
  readonly processors: number
}

const MEBIBYTE = 2 ** 20

/** LoRAX's and ours. `pbase` is understood, but changes nothing here. */
const adapterSources = ['store', 'local', 'hub', 's3', 'pbase'] as const

const engines = ['onnx', 'remote'] as const
const remoteKinds = ['auto', 'vllm', 'sglang'] as const

const whole = (min: number, max: number) =>
  z
    .string()
    .regex(/^[0-9]{1,15}$/, { error: `a whole number from ${min} to ${max}` })
    .transform(Number)
    .refine((value) => value >= min && value <= max, { error: `a whole number from ${min} to ${max}` })
const filled = (what: string) => z.string().trim().min(1, { error: what })
const oneOf = <const T extends readonly string[]>(values: T) => z.enum(values, { error: `one of ${values.join(', ')}` })
const httpUrl = z
  .string()
  .refine((text) => text === '' || /^https?:\/\/[^/\s]/.test(text), { error: 'an http:// or https:// address' })

const startAdapters = z
  .string()
  .transform((text) => text.split(',').flatMap((part) => (part.trim() === '' ? [] : [part.trim()])))
  .refine((texts) => texts.every((text) => parseStartAdapter(text) !== undefined), {
    error: 'adapters joined by commas, such as org/name, name=/path or org/name@revision',
  })

const isFileUrl = (text: string) => URL.parse(text)?.protocol === 'file:'

export function schemaFor({ cwd, home }: Surroundings) {
  const absolute = (text: string) =>
    path.resolve(cwd, text === '~' || text.startsWith('~/') ? path.join(home, text.slice(1)) : text)
  const folder = filled('a folder').transform(absolute)
  return z.object({
    port: whole(0, 65535),
    host: filled('a host name or address'),
    data: folder,
    keys: z.string().transform((text) => (text === '' ? '' : absolute(text))),
    adminKey: z.string().regex(/^[\x21-\x7e]{0,512}$/, { error: 'a secret without spaces, of at most 512 characters' }),
    model: filled('a folder, a .gguf file, a hub id such as org/name, or smollm2-135m-instruct'),
    device: oneOf(devices),
    dtype: oneOf(dtypes),
    engine: oneOf(engines),
    remote: httpUrl,
    remoteKind: oneOf(remoteKinds),
    remoteModel: z.string().trim(),
    remoteKey: z.string().regex(/^[\x21-\x7e]{0,512}$/, { error: 'a secret without spaces, of at most 512 characters' }),
    remoteFolder: z.string().transform((text) => (text === '' ? '' : absolute(text))),
    remotePath: z.string().trim(),
    lora: oneOf(loraModes),
    slots: whole(1, 1024),
    maxRank: whole(1, 512),
    localRoots: z.string().transform((text) =>
      text
        .split(':')
        .filter((part) => part !== '')
        .map(absolute),
    ),
    s3Buckets: z
      .string()
      .transform((text) => text.split(',').flatMap((part) => (part.trim() === '' ? [] : [part.trim()])))
      .refine((places) => places.every(isBucketPlace), { error: 'buckets joined by commas, such as models,shared/adapters' }),
    loraAdapters: startAdapters,
    preloadedAdapters: startAdapters,
    cache: folder,
    threads: whole(1, 256),
    sequences: whole(1, 1024),
    reservedPercent: whole(0, 90),
    tenantWaitingRequests: whole(1, limits.waitingSequences),
    tenantWaitingTokens: whole(1, 1_073_741_824),
    totalTokens: whole(2, 1_048_576),
    maxInputTokens: whole(0, 1_048_575),
    maxConcurrentRequests: whole(0, 65_536),
    maxBestOf: whole(1, limits.choices),
    maxStopSequences: whole(1, limits.stopSequencesAtMost),
    adapterSource: z.string().trim().toLowerCase().pipe(oneOf(adapterSources)),
    chunkTokens: whole(1, 8192),
    chunkSizing: oneOf(['measured', 'whole']),
    speculation: z
      .string()
      .trim()
      .toLowerCase()
      .regex(/^(auto|off|[0-9]|1[0-6])$/, { error: 'auto, off, or a whole number from 0 to 16' })
      .transform((text) => (text === 'auto' ? text : text === 'off' ? 0 : Number(text))),
    adapterTimeoutMs: whole(1, limits.requestDeadlineMs),
    ramBytes: whole(MEBIBYTE, 2 ** 49),
    prefixCacheBytes: whole(0, 2 ** 49),
    diskBytes: whole(MEBIBYTE, 2 ** 49),
    python: filled('a command'),
    store: z.string().refine((text) => /^s3:\/\/./.test(text) || isFileUrl(text), {
      error: 'an address such as file:///path or s3://bucket/prefix',
    }),
    s3Endpoint: httpUrl,
    s3Region: z.string().regex(/^[a-z0-9-]{0,40}$/, { error: 'the name of a region, such as eu-central-1' }),
    redis: z
      .string()
      .refine((text) => text === '' || /^rediss?:\/\/./.test(text), { error: 'an address such as redis://127.0.0.1:6379' }),
    dropIntervalMs: whole(0, 86_400_000),
    workers: z
      .string()
      .transform((text) => text.split(',').flatMap((part) => (part.trim() === '' ? [] : [part.trim()])))
      .refine((places) => places.every(isWorkerPlace), {
        error: 'addresses joined by commas, such as http://10.0.0.7:8090 or dns+http://workers:8090',
      }),
    drainDelayMs: whole(0, 600_000),
    processes: whole(1, 64),
    workerHost: filled('a host name or address'),
    workerPort: whole(0, 65535),
    workerAddress: httpUrl,
    workerToken: z.string(),
    hubEndpoint: httpUrl,
    hubToken: z.string(),
    hubHome: folder,
  })
}

export type Config = z.output<ReturnType<typeof schemaFor>>
export type ConfigKey = keyof Config

export function defaultTexts({ home, processors }: Surroundings): Record<Exclude<ConfigKey, 'store'>, string> {
  return {
    port: '8080',
    host: '127.0.0.1',
    data: './quiver-data',
    keys: '',
    adminKey: '',
    model: 'smollm2-135m-instruct',
    device: 'auto',
    dtype: 'int8',
    engine: 'onnx',
    remote: '',
    remoteKind: 'auto',
    remoteModel: '',
    remoteKey: '',
    remoteFolder: '',
    remotePath: '',
    lora: 'auto',
    slots: '32',
    maxRank: '64',
    localRoots: '',
    s3Buckets: '',
    loraAdapters: '',
    preloadedAdapters: '',
    cache: path.join(home, '.cache/quiver'),
    threads: String(processors),
    sequences: '32',
    reservedPercent: '33',
    tenantWaitingRequests: String(limits.tenantWaitingSequences),
    tenantWaitingTokens: String(limits.tenantWaitingTokens),
    totalTokens: '2048',
    maxInputTokens: '0',
    maxConcurrentRequests: '0',
    maxBestOf: String(limits.bestOf),
    maxStopSequences: String(limits.stopSequences),
    adapterSource: 'store',
    chunkTokens: '128',
    chunkSizing: 'measured',
    speculation: 'auto',
    adapterTimeoutMs: String(limits.adapterArrivalMs),
    ramBytes: String(512 * MEBIBYTE),
    prefixCacheBytes: String(128 * MEBIBYTE),
    diskBytes: String(10_240 * MEBIBYTE),
    python: 'python3',
    s3Endpoint: '',
    s3Region: '',
    redis: '',
    dropIntervalMs: '5000',
    workers: '',
    drainDelayMs: '5000',
    processes: '1',
    workerHost: '127.0.0.1',
    workerPort: '8090',
    workerAddress: '',
    workerToken: '',
    hubEndpoint: '',
    hubToken: '',
    hubHome: path.join(home, '.cache/huggingface'),
  }
}

export function defaultStore(data: string, { cwd }: Surroundings): string {
  return pathToFileURL(path.resolve(cwd, data, 'store')).href
}

function isWorkerPlace(text: string): boolean {
  const url = URL.parse(text.replace(/^dns\+http/, 'http'))
  return (url?.protocol === 'http:' || url?.protocol === 'https:') && url.pathname === '/' && url.search === ''
}

function isBucketPlace(text: string): boolean {
  try {
    parseBucketPlace(text)
    return true
  } catch {
    return false // Only because it cannot be one.
  }
}
