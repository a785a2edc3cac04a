import type { HubConfig } from '@quiver/cache/hub'
import { type Clock, type DeviceChoice, type Dtype, type Logger, type LoraMode, limits, type Progress } from '@quiver/protocol'
import type { StepMark } from './batch-loop.ts'
import type { RemoteConfig } from './engine/remote/remote-engine.ts'
import type { ReadMemory } from './memory-pressure.ts'
import type { ProcessRunner } from './model/process-runner.ts'
import type { Speculation } from './step/speculation.ts'
import type { TenantLimits } from './tenant-queues.ts'
import type { Timers } from './timers.ts'
import type { WorkerParts } from './worker-parts.ts'

/** Everything that decides what a worker serves and how much it takes. */
export interface WorkerConfig {
  /** A built-in alias, a folder, a .gguf file or a hub id. */
  readonly model: string
  readonly dtype: Dtype
  /** Where the model is computed; absent: on the CPU. */
  readonly device?: DeviceChoice
  /** A server that computes instead of this process; absent: ONNX Runtime does, here. */
  readonly remote?: RemoteConfig | undefined
  /** What applies adapters. */
  readonly lora: LoraMode
  /** Adapters in device memory at once, and the largest rank that a place holds. */
  readonly slots: number
  readonly maxRank: number
  /** Sequences that run at once. */
  readonly sequences: number
  /** Prompt and answer together; the model's own context may make it less. */
  readonly totalTokens: number
  /** Prompt alone; absent, or where it is more, all but one of the total. */
  readonly inputTokens?: number
  /** Share of the running requests that is kept for tenants who are expected back, 0 … below 1; absent: none. */
  readonly reservedShare?: number
  /** Of one tenant: requests that wait, and prompt tokens of all its requests; absent: the built-in limits. */
  readonly tenantWaitingRequests?: number
  readonly tenantWaitingTokens?: number
  /** Prompt tokens computed in one step. */
  readonly chunkTokens: number
  /** Tokens guessed ahead by looking back; absent: none. */
  readonly speculation?: Speculation
  /** `measured`: chunks are cut to what running streams can bear; absent or `whole`: all of `chunkTokens`, whatever it does to them. */
  readonly chunkSizing?: 'measured' | 'whole'
  readonly threads: number
  readonly host: string
  /** 0 takes any free port. */
  readonly port: number
  /** Shared secret that gateways must show. */
  readonly token?: string | undefined
  /** Folder for models, graphs, the compiled operator and packed adapters. */
  readonly cacheDir: string
  /** Folder of the operator's sources. */
  readonly kernelsDir: string
  /** Where registered adapters come from: `file:///path` or `s3://bucket/prefix`. */
  readonly storeUrl: string
  /** For `s3://`; absent: as the AWS SDK finds them. */
  readonly s3?: { readonly endpoint?: string; readonly region?: string }
  /** Absolute folders below which `local` adapters may lie. */
  readonly localRoots: readonly string[]
  /** Buckets, or folders in them, in which `s3` adapters may lie. */
  readonly s3Buckets: readonly string[]
  readonly hub: HubConfig
  /** The Python that has pip, for built-in models, and what `~` in a model's path stands for. */
  readonly python: string
  readonly homeDir: string
  /** How long a request waits for its adapter; the load goes on after that. */
  readonly adapterArrivalMs?: number
  readonly ramBytes: number
  /** Keys and values of the beginnings of prompts, kept for those that begin alike; 0 or absent: none. */
  readonly prefixCacheBytes?: number
  readonly diskBytes: number
}

export function tenantLimits({ tenantWaitingRequests, tenantWaitingTokens }: WorkerConfig): TenantLimits {
  return {
    requests: tenantWaitingRequests ?? limits.tenantWaitingSequences,
    tokens: tenantWaitingTokens ?? limits.tenantWaitingTokens,
  }
}

/** Everything a worker takes from the outside world. */
export interface WorkerDeps {
  readonly clock: Clock
  /** Must not keep the process alive. */
  readonly timers: Timers
  /** Milliseconds since 1970, for what people read; nothing is timed by it. */
  wallClockMs(): number
  readonly log: Logger
  /** A seed for a run that draws and names none; its lowest 53 bits are used. */
  drawSeed(): bigint
  /** Different at every call, in every process. */
  uniqueId(): string
  onProgress(progress: Progress): void
  readonly fetch: typeof fetch
  /** What the container's memory looks like; absent: it is not watched. */
  readonly readMemory?: ReadMemory
  /** Hears of every step, before it and after it. */
  readonly onStep?: (mark: StepMark) => void
  /** Runs pip, for built-in models. */
  readonly runProcess: ProcessRunner
  /** Calls the start off. */
  readonly signal: AbortSignal
  /** A broken invariant: log it and end the process. */
  fatal(error: unknown): void
  /** Other parts than the real ones, for tests. */
  readonly parts?: Partial<WorkerParts>
}
