/** What every option is called: as a flag, in the environment, and by TGI and LoRAX. */
import { dtypes } from '@quiver/protocol'
import type { ConfigKey } from './option-schema.ts'

export interface OptionName {
  readonly env: string
  readonly flag: string
  /** What the flag's value is called in the help. */
  readonly value: string
  readonly help: string
  readonly isSecret?: true
  /** The flag may be given several times. */
  readonly isRepeated?: true
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
  adminKey: {
    env: 'QUIVER_ADMIN_KEY',
    flag: 'admin-key',
    value: 'secret',
    help: 'what opens /admin; without it and without keys, only this machine may ask there',
    isSecret: true,
  },
  model: {
    env: 'QUIVER_MODEL',
    flag: 'model',
    value: 'model',
    help: 'base model: folder, .gguf file, hub id or built-in alias',
    theirs: { env: ['MODEL_ID'], flags: ['model-id'] },
  },
  engine: {
    env: 'QUIVER_ENGINE',
    flag: 'engine',
    value: 'what',
    help: 'what computes: ONNX Runtime in the worker (onnx), or a vLLM or SGLang server that runs already (remote)',
  },
  remote: { env: 'QUIVER_REMOTE', flag: 'remote', value: 'address', help: 'that server, such as http://127.0.0.1:8000' },
  remoteKind: { env: 'QUIVER_REMOTE_KIND', flag: 'remote-kind', value: 'what', help: 'what that server is: auto asks it' },
  remoteModel: {
    env: 'QUIVER_REMOTE_MODEL',
    flag: 'remote-model',
    value: 'name',
    help: "the worker's model as that server calls it; without one, it must serve one model of the same name",
  },
  remoteKey: { env: 'QUIVER_REMOTE_KEY', flag: 'remote-key', value: 'secret', help: 'API key of that server', isSecret: true },
  remoteFolder: {
    env: 'QUIVER_REMOTE_FOLDER',
    flag: 'remote-folder',
    value: 'folder',
    help: 'where adapters are written for that server to read; below the cache unless said otherwise',
  },
  remotePath: {
    env: 'QUIVER_REMOTE_PATH',
    flag: 'remote-path',
    value: 'folder',
    help: 'what that server calls this folder, where it sees another path',
  },
  device: {
    env: 'QUIVER_DEVICE',
    flag: 'device',
    value: 'where',
    help: 'where the model is computed: a GPU where one can be used (auto), only there (cuda), or the processor (cpu)',
  },
  dtype: {
    env: 'QUIVER_DTYPE',
    flag: 'dtype',
    value: 'type',
    help: `weights of the base model: ${dtypes.join(', ')}; a GPU computes in fp16, unless it is bf16`,
  },
  lora: {
    env: 'QUIVER_LORA',
    flag: 'lora',
    value: 'what',
    help: 'what applies adapters: our own operator where it can be had (auto), it or nothing (operator), or standard operators (standard)',
  },
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
  s3Buckets: {
    env: 'QUIVER_S3_BUCKETS',
    flag: 's3-buckets',
    value: 'buckets',
    help: 'comma-separated buckets, bucket or bucket/folder, from which adapter_source "s3" may load',
  },
  loraAdapters: {
    env: 'QUIVER_LORA_ADAPTERS',
    flag: 'lora-adapters',
    value: 'adapters',
    help: 'comma-separated adapters to register, fetch and pin at start: id, name=path or id@revision',
    theirs: { env: ['LORA_ADAPTERS'], flags: [] },
  },
  preloadedAdapters: {
    env: 'QUIVER_PRELOADED_ADAPTERS',
    flag: 'preloaded-adapters',
    value: 'adapters',
    help: 'the same, for settings made for LoRAX',
    isRepeated: true,
    theirs: { env: ['PRELOADED_ADAPTER_IDS'], flags: ['preloaded-adapter-ids'] },
  },
  cache: { env: 'QUIVER_CACHE', flag: 'cache', value: 'folder', help: 'where models, graphs and packed adapters are cached' },
  threads: { env: 'QUIVER_THREADS', flag: 'threads', value: 'count', help: 'processor threads of the engine' },
  sequences: { env: 'QUIVER_SEQUENCES', flag: 'sequences', value: 'count', help: 'requests that run at once' },
  reservedPercent: {
    env: 'QUIVER_RESERVED_PERCENT',
    flag: 'reserved-percent',
    value: 'percent',
    help: 'of the running requests, kept for tenants who are expected back; matters only with several tenants',
  },
  tenantWaitingRequests: {
    env: 'QUIVER_TENANT_WAITING_REQUESTS',
    flag: 'tenant-waiting-requests',
    value: 'count',
    help: 'requests of one tenant that wait in a worker; one more is answered 429',
  },
  tenantWaitingTokens: {
    env: 'QUIVER_TENANT_WAITING_TOKENS',
    flag: 'tenant-waiting-tokens',
    value: 'count',
    help: 'prompt tokens of all requests of one tenant in a worker; beyond that, 429',
  },
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
    help: 'largest best_of of a request',
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
    help: 'adapter_source of requests that name none: store, hub, s3 or local',
    theirs: { env: ['ADAPTER_SOURCE'], flags: [] },
  },
  chunkTokens: { env: 'QUIVER_CHUNK_TOKENS', flag: 'chunk-tokens', value: 'count', help: 'prompt tokens computed in one step' },
  chunkSizing: {
    env: 'QUIVER_CHUNK_SIZING',
    flag: 'chunk-sizing',
    value: 'how',
    help: 'measured: fewer prompt tokens in a step where running streams would lose their pace; whole: always as many',
  },
  speculation: {
    env: 'QUIVER_SPECULATION',
    flag: 'speculation',
    value: 'how',
    help: 'tokens guessed ahead from what the text holds already: auto where it pays, off, or a number of tokens; answers stay the same',
    theirs: { env: ['SPECULATE', 'SPECULATIVE_TOKENS'], flags: ['speculate', 'speculative-tokens'] },
  },
  adapterTimeoutMs: {
    env: 'QUIVER_ADAPTER_TIMEOUT_MS',
    flag: 'adapter-timeout-ms',
    value: 'time',
    help: 'how long a request waits for its adapter to arrive',
  },
  ramBytes: { env: 'QUIVER_RAM_BYTES', flag: 'ram-bytes', value: 'bytes', help: 'memory for adapters behind the slots' },
  prefixCacheBytes: {
    env: 'QUIVER_PREFIX_CACHE_BYTES',
    flag: 'prefix-cache-bytes',
    value: 'bytes',
    help: 'memory for the beginnings of prompts, which later prompts of the tenant that begin alike need not compute; 0: none',
  },
  diskBytes: { env: 'QUIVER_DISK_BYTES', flag: 'disk-bytes', value: 'bytes', help: 'disk space for packed adapters' },
  python: { env: 'QUIVER_PYTHON', flag: 'python', value: 'command', help: 'Python with pip, which fetches the built-in model' },
  store: { env: 'QUIVER_STORE', flag: 'store', value: 'address', help: 'object store of adapters and catalogue' },
  s3Endpoint: {
    env: 'QUIVER_S3_ENDPOINT',
    flag: 's3-endpoint',
    value: 'address',
    help: 'S3 server of s3:// addresses, if not Amazon',
    theirs: { env: ['AWS_ENDPOINT_URL_S3', 'AWS_ENDPOINT_URL', 'S3_ENDPOINT_URL'], flags: [] },
  },
  s3Region: {
    env: 'QUIVER_S3_REGION',
    flag: 's3-region',
    value: 'region',
    help: 'region of s3:// addresses',
    theirs: { env: ['AWS_REGION', 'AWS_DEFAULT_REGION'], flags: [] },
  },
  redis: {
    env: 'QUIVER_REDIS',
    flag: 'redis',
    value: 'address',
    help: 'Redis for copies of the catalogue, news between gateways, the queue of the drop folder and finding workers; not needed',
    isSecret: true,
  },
  dropIntervalMs: {
    env: 'QUIVER_DROP_INTERVAL_MS',
    flag: 'drop-interval-ms',
    value: 'time',
    help: 'how often the drop folder of the store is looked at; 0: only at the start and when a bucket says so',
  },
  workers: {
    env: 'QUIVER_WORKERS',
    flag: 'worker',
    value: 'address',
    help: 'workers of `quiver gateway`: http://host:port or dns+http://name:port, several times or joined by commas',
  },
  drainDelayMs: {
    env: 'QUIVER_DRAIN_DELAY_MS',
    flag: 'drain-delay-ms',
    value: 'time',
    help: 'how long `quiver gateway` and `quiver worker` serve what still comes after they have said that they stop',
  },
  processes: {
    env: 'QUIVER_PROCESSES',
    flag: 'processes',
    value: 'count',
    help: 'processes of `quiver gateway` on its one port, each with connections to all workers',
  },
  workerHost: { env: 'QUIVER_WORKER_HOST', flag: 'worker-host', value: 'address', help: 'address of `quiver worker`' },
  workerPort: { env: 'QUIVER_WORKER_PORT', flag: 'worker-port', value: 'number', help: 'port of `quiver worker`' },
  workerAddress: {
    env: 'QUIVER_WORKER_ADDRESS',
    flag: 'worker-address',
    value: 'address',
    help: 'where gateways reach this worker, for Redis; without it, where it listens',
  },
  workerToken: {
    env: 'QUIVER_WORKER_TOKEN',
    flag: 'worker-token',
    value: 'secret',
    help: 'secret that workers want to be shown and `quiver gateway` shows them',
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
