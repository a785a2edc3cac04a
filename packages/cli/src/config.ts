/**
 * Everything that can be set, once: the schema says what is allowed, the table how it is called. A flag wins over the
 * environment, the environment over the default; an empty environment variable counts as not set.
 */
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { dtypes, limits, ServingError } from '@quiver/protocol'
import { z } from 'zod'
import { type Flags, flagKey, type GivenOption, type Origin, readOption } from './given-option.ts'
import { unusedNotices } from './launcher-names.ts'

/** What the defaults and relative paths depend on. */
export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cwd: string
  readonly home: string
  /** Processors that this process may use. */
  readonly processors: number
}

const MEBIBYTE = 2 ** 20

/** LoRAX's, so that its settings are understood; those beyond the first two change nothing here. */
const adapterSources = ['store', 'local', 'hub', 's3', 'pbase'] as const

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

function schemaFor({ cwd, home }: Surroundings) {
  const absolute = (text: string) =>
    path.resolve(cwd, text === '~' || text.startsWith('~/') ? path.join(home, text.slice(1)) : text)
  const folder = filled('a folder').transform(absolute)
  return z.object({
    port: whole(0, 65535),
    host: filled('a host name or address'),
    data: folder,
    keys: z.string().transform((text) => (text === '' ? '' : absolute(text))),
    model: filled('a folder, a .gguf file, a hub id such as org/name, or smollm2-135m-instruct'),
    dtype: oneOf(dtypes),
    slots: whole(1, 1024),
    maxRank: whole(1, 512),
    localRoots: z.string().transform((text) =>
      text
        .split(':')
        .filter((part) => part !== '')
        .map(absolute),
    ),
    cache: folder,
    threads: whole(1, 256),
    sequences: whole(1, 1024),
    totalTokens: whole(2, 1_048_576),
    maxInputTokens: whole(0, 1_048_575),
    maxConcurrentRequests: whole(0, 65_536),
    maxBestOf: whole(1, limits.choices),
    maxStopSequences: whole(1, limits.stopSequencesAtMost),
    adapterSource: z.string().trim().toLowerCase().pipe(oneOf(adapterSources)),
    chunkTokens: whole(1, 8192),
    ramBytes: whole(MEBIBYTE, 2 ** 49),
    diskBytes: whole(MEBIBYTE, 2 ** 49),
    python: filled('a command'),
    store: z.url({ protocol: /^file$/, error: 'an address such as file:///path' }),
    workerHost: filled('a host name or address'),
    workerPort: whole(0, 65535),
    workerToken: z.string(),
    hubEndpoint: httpUrl,
    hubToken: z.string(),
    hubHome: folder,
  })
}

export type Config = z.output<ReturnType<typeof schemaFor>>
export type ConfigKey = keyof Config

export { type Flags, flagKey, type Origin }

export interface OptionName {
  readonly env: string
  readonly flag: string
  /** What the flag's value is called in the help. */
  readonly value: string
  readonly help: string
  readonly isSecret?: true
  /** What TGI and LoRAX call it; our own names win. */
  readonly theirs?: { readonly env: readonly string[]; readonly flags: readonly string[] }
}

/** In the order of the help. */
export const optionNames: Readonly<Record<ConfigKey, OptionName>> = {
  port: {
    env: 'QUIVER_PORT',
    flag: 'port',
    value: 'number',
    help: 'port of the public HTTP server',
    theirs: { env: ['PORT'], flags: [] },
  },
  host: {
    env: 'QUIVER_HOST',
    flag: 'host',
    value: 'address',
    help: 'address that the public HTTP server listens on',
    theirs: { env: ['HOSTNAME'], flags: ['hostname'] },
  },
  data: { env: 'QUIVER_DATA', flag: 'data', value: 'folder', help: 'where published adapters and the catalogue are kept' },
  keys: { env: 'QUIVER_KEYS', flag: 'keys', value: 'file', help: 'file of API keys; without one, no key is needed' },
  model: {
    env: 'QUIVER_MODEL',
    flag: 'model',
    value: 'model',
    help: 'base model: folder, .gguf file, hub id or built-in alias',
    theirs: { env: ['MODEL_ID'], flags: ['model-id'] },
  },
  dtype: { env: 'QUIVER_DTYPE', flag: 'dtype', value: 'type', help: `weights of the base model: ${dtypes.join(', ')}` },
  slots: {
    env: 'QUIVER_SLOTS',
    flag: 'slots',
    value: 'count',
    help: 'adapters in device memory at once',
    theirs: { env: ['MAX_ACTIVE_ADAPTERS'], flags: ['max-active-adapters'] },
  },
  maxRank: { env: 'QUIVER_MAX_RANK', flag: 'max-rank', value: 'rank', help: 'largest rank that an adapter may have' },
  localRoots: {
    env: 'QUIVER_LOCAL_ROOTS',
    flag: 'local-roots',
    value: 'folders',
    help: 'colon-separated folders from which adapter_source "local" may load',
  },
  cache: { env: 'QUIVER_CACHE', flag: 'cache', value: 'folder', help: 'where models, graphs and packed adapters are cached' },
  threads: { env: 'QUIVER_THREADS', flag: 'threads', value: 'count', help: 'processor threads of the engine' },
  sequences: { env: 'QUIVER_SEQUENCES', flag: 'sequences', value: 'count', help: 'requests that run at once' },
  totalTokens: {
    env: 'QUIVER_TOTAL_TOKENS',
    flag: 'total-tokens',
    value: 'count',
    help: 'prompt and answer of one request together',
    theirs: { env: ['MAX_TOTAL_TOKENS'], flags: ['max-total-tokens'] },
  },
  maxInputTokens: {
    env: 'QUIVER_MAX_INPUT_TOKENS',
    flag: 'max-input-tokens',
    value: 'count',
    help: 'prompt of one request; 0: all but one of the total',
    theirs: { env: ['MAX_INPUT_TOKENS', 'MAX_INPUT_LENGTH'], flags: ['max-input-length'] },
  },
  maxConcurrentRequests: {
    env: 'QUIVER_MAX_CONCURRENT_REQUESTS',
    flag: 'max-concurrent-requests',
    value: 'count',
    help: 'runs in the house at once, one more is answered 429; 0: as many as the worker takes',
    theirs: { env: ['MAX_CONCURRENT_REQUESTS'], flags: [] },
  },
  maxBestOf: {
    env: 'QUIVER_MAX_BEST_OF',
    flag: 'max-best-of',
    value: 'count',
    help: 'largest best_of of the LoRAX routes',
    theirs: { env: ['MAX_BEST_OF'], flags: [] },
  },
  maxStopSequences: {
    env: 'QUIVER_MAX_STOP_SEQUENCES',
    flag: 'max-stop-sequences',
    value: 'count',
    help: 'stop sequences of one request',
    theirs: { env: ['MAX_STOP_SEQUENCES'], flags: [] },
  },
  adapterSource: {
    env: 'QUIVER_ADAPTER_SOURCE',
    flag: 'adapter-source',
    value: 'source',
    help: 'adapter_source of requests that name none: store or local',
    theirs: { env: ['ADAPTER_SOURCE'], flags: [] },
  },
  chunkTokens: { env: 'QUIVER_CHUNK_TOKENS', flag: 'chunk-tokens', value: 'count', help: 'prompt tokens computed in one step' },
  ramBytes: { env: 'QUIVER_RAM_BYTES', flag: 'ram-bytes', value: 'bytes', help: 'memory for adapters behind the slots' },
  diskBytes: { env: 'QUIVER_DISK_BYTES', flag: 'disk-bytes', value: 'bytes', help: 'disk space for packed adapters' },
  python: { env: 'QUIVER_PYTHON', flag: 'python', value: 'command', help: 'Python with pip, which fetches the built-in model' },
  store: { env: 'QUIVER_STORE', flag: 'store', value: 'address', help: 'object store of adapters and catalogue' },
  workerHost: { env: 'QUIVER_WORKER_HOST', flag: 'worker-host', value: 'address', help: 'address of `quiver worker`' },
  workerPort: { env: 'QUIVER_WORKER_PORT', flag: 'worker-port', value: 'number', help: 'port of `quiver worker`' },
  workerToken: {
    env: 'QUIVER_WORKER_TOKEN',
    flag: 'worker-token',
    value: 'secret',
    help: 'secret that `quiver worker` wants to be shown',
    isSecret: true,
  },
  hubEndpoint: { env: 'HF_ENDPOINT', flag: 'hub-endpoint', value: 'address', help: 'another hub than the public one' },
  hubToken: {
    env: 'HF_TOKEN',
    flag: 'hub-token',
    value: 'secret',
    help: 'token for the hub',
    isSecret: true,
    theirs: { env: ['HUGGING_FACE_HUB_TOKEN'], flags: [] },
  },
  hubHome: { env: 'HF_HOME', flag: 'hub-home', value: 'folder', help: 'cache of huggingface_hub, which is read if it is there' },
}

export const optionKeys = Object.keys(optionNames) as readonly ConfigKey[]

export interface ReadConfig {
  readonly config: Config
  readonly origins: Readonly<Record<ConfigKey, Origin>>
  /** The flag or variable that each value was given by. */
  readonly givenBy: Readonly<Partial<Record<ConfigKey, string>>>
  /** What was set but has no effect, in sentences. */
  readonly notices: readonly string[]
}

/**
 * @param flags by the flag's name in camel case, as commander gives them
 * @throws ServingError `invalid_request` with one line that names the variable or flag, the value, and what is allowed
 * @example readConfig({ port: '9000' }, { env: process.env, cwd: process.cwd(), home: homedir(), processors: 2 })
 */
export function readConfig(flags: Flags, surroundings: Surroundings): ReadConfig {
  const given = optionKeys.map((key) => [key, readOption(optionNames[key], flags, surroundings.env)] as const)
  const texts = Object.fromEntries(given.map(([key, { text }]) => [key, text]))
  const defaults = defaultTexts(surroundings)
  // The store lies in the data folder unless told otherwise, so it waits for that to be known.
  const data = texts['data'] ?? defaults.data
  const parsed = schemaFor(surroundings).safeParse({
    ...defaults,
    store: defaultStore(data, surroundings),
    ...withoutUndefined(texts),
  })
  if (!parsed.success) throw refusal(parsed.error.issues[0], Object.fromEntries(given))
  const origins = Object.fromEntries(given.map(([key, { origin }]) => [key, origin])) as Record<ConfigKey, Origin>
  const givenBy = Object.fromEntries(given.map(([key, { name, origin }]) => [key, origin === 'default' ? undefined : name]))
  return { config: parsed.data, origins, givenBy, notices: unusedNotices(parsed.data, flags, surroundings) }
}

/** The environment in which another process of quiver reads this very configuration. */
export function toEnvironment(config: Config): Record<string, string> {
  return Object.fromEntries(optionKeys.map((key) => [optionNames[key].env, optionText(config, key)]))
}

/** An option's value as it is written in the environment. */
export function optionText(config: Config, key: ConfigKey): string {
  const value = config[key]
  return Array.isArray(value) ? value.join(':') : String(value)
}

function defaultTexts({ home, processors }: Surroundings): Record<Exclude<ConfigKey, 'store'>, string> {
  return {
    port: '8080',
    host: '127.0.0.1',
    data: './quiver-data',
    keys: '',
    model: 'smollm2-135m-instruct',
    dtype: 'int8',
    slots: '32',
    maxRank: '64',
    localRoots: '',
    cache: path.join(home, '.cache/quiver'),
    threads: String(processors),
    sequences: '32',
    totalTokens: '2048',
    maxInputTokens: '0',
    maxConcurrentRequests: '0',
    maxBestOf: String(limits.bestOf),
    maxStopSequences: String(limits.stopSequences),
    adapterSource: 'store',
    chunkTokens: '128',
    ramBytes: String(512 * MEBIBYTE),
    diskBytes: String(10_240 * MEBIBYTE),
    python: 'python3',
    workerHost: '127.0.0.1',
    workerPort: '8090',
    workerToken: '',
    hubEndpoint: '',
    hubToken: '',
    hubHome: path.join(home, '.cache/huggingface'),
  }
}

function defaultStore(data: string, { cwd }: Surroundings): string {
  return pathToFileURL(path.resolve(cwd, data, 'store')).href
}

function withoutUndefined(texts: Record<string, string | undefined>): Record<string, string> {
  return Object.fromEntries(Object.entries(texts).filter((entry): entry is [string, string] => entry[1] !== undefined))
}

function refusal(issue: z.core.$ZodIssue | undefined, given: Record<string, GivenOption>): ServingError {
  const key = optionKeys.find((candidate) => candidate === issue?.path[0])
  if (key === undefined)
    return new ServingError('invalid_request', issue?.message ?? 'the configuration is not valid', { usage: 1 })
  const names = optionNames[key]
  const { text, name } = given[key] ?? { text: undefined, name: names.env }
  const shown = names.isSecret ? 'hidden' : JSON.stringify(text ?? '')
  return new ServingError('invalid_request', `${name} is ${shown}, but must be ${issue?.message}`, { usage: 1 })
}
