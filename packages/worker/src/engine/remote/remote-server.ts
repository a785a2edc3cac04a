import type { RunRequest } from '@quiver/protocol'
import type { TextPart, TextRequest } from '../streaming-engine.ts'

export const remoteKinds = ['vllm', 'sglang'] as const
export type RemoteKind = (typeof remoteKinds)[number]

/** What is asked of a running server at the start. */
export interface ServerFacts {
  /** The base model as requests name it, and where the server has it from. */
  readonly model: string
  readonly modelPath: string | undefined
  /** Prompt and answer together, in tokens; undefined where the server does not say. */
  readonly totalTokens: number | undefined
  /** Adapters in one batch, and the largest rank; undefined where the server does not say. */
  readonly slots: number | undefined
  readonly maxRank: number | undefined
  /** The same seed draws the same tokens again. */
  readonly keepsSeeds: boolean
  /** Names of all adapters that it has now. */
  readonly adapters: readonly string[]
}

/** One text of one model of the server. */
export interface ServerText extends Omit<TextRequest, 'slot' | 'requestId'> {
  /** Undefined: the base model. */
  readonly adapter: string | undefined
}

/** The part of a server's API that Quiver needs, in Quiver's words. Every method throws ServingError `worker_lost` when the server fails. */
export interface RemoteServer {
  readonly kind: RemoteKind
  /** @param named the base model that is meant; empty: there must be one only. @throws ServingError `invalid_request` when there is no such model */
  facts(named: string): Promise<ServerFacts>
  /** Its tokens of a text, without any that are put before; undefined where it cannot be asked. */
  tokenize(text: string): Promise<readonly number[] | undefined>
  /** @param folder a PEFT folder, by the server's own path. @throws ServingError `adapter_unavailable` when it is refused */
  load(name: string, folder: string): Promise<void>
  /** One that it does not have is fine. */
  unload(name: string): Promise<void>
  adapters(): Promise<readonly string[]>
  /** What this kind of server cannot do of a request, in words for its sender; undefined: it can do all. */
  lacks(request: RunRequest): string | undefined
  /** @throws ServingError `invalid_parameters` when it refuses */
  generate(text: ServerText, signal: AbortSignal): AsyncIterable<TextPart>
}

/** How long a question, and how long a load may take. */
export const questionMs = 10_000
export const loadMs = 120_000
