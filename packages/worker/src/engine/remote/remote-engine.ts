import { BASE_SLOT, type BaseLayout, type Logger, type RunRequest, ServingError, type SlotIndex } from '@quiver/protocol'
import { baseLayout, type ModelSpec } from '../../model/model-spec.ts'
import type { Timers } from '../../timers.ts'
import type { Tokenizer } from '../../tokenizer/tokenizer.ts'
import type { StreamingEngine, TextPart, TextRequest } from '../streaming-engine.ts'
import { RemoteHttp } from './remote-http.ts'
import { questionMs, type RemoteKind, type RemoteServer, type ServerFacts } from './remote-server.ts'
import { RemoteSlots } from './remote-slots.ts'
import { SglangServer } from './sglang-server.ts'
import { VllmServer } from './vllm-server.ts'

export interface RemoteConfig {
  readonly url: string
  readonly kind: 'auto' | RemoteKind
  /** The served model that is meant, even if it is called otherwise; empty: the only one, which must be called like the worker's. */
  readonly model: string
  readonly key: string
  /** Where adapters are written for the server, and what it calls that place; empty: the same. */
  readonly folder: string
  readonly folderAtServer: string
}

export interface RemoteEngineConfig extends RemoteConfig {
  readonly sequences: number
  readonly totalTokens: number
  readonly slots: number
  readonly maxRank: number
}

export interface RemoteEngineDeps {
  readonly fetch: typeof fetch
  readonly timers: Timers
  readonly log: Logger
  readonly spec: ModelSpec
  readonly tokenizer: Tokenizer
}

const titles: Readonly<Record<RemoteKind, string>> = { vllm: 'vLLM', sglang: 'SGLang' }

/** Words, blanks, digits, signs and letters beyond ASCII: tokenizers that agree on it are hardly different. */
const PROBE = "Quiver's probe: 1,024 tokens;\n\n\tdef f(x): return x**2 # naïve Größe, 日本語 🏹"

/**
 * Opens a server that runs already, as the engine of this worker.
 * @throws ServingError `invalid_request` when it is not what this worker's model and options say, and what to change;
 * `worker_lost` when it cannot be reached
 */
export async function createRemoteEngine(config: RemoteEngineConfig, deps: RemoteEngineDeps): Promise<StreamingEngine> {
  const http = new RemoteHttp({ url: config.url.replace(/\/+$/, ''), key: config.key }, deps)
  const server = await serverOf(config.kind, http)
  const facts = await server.facts(config.model)
  refuseOtherModel(facts, config, deps)
  await refuseOtherTokenizer(server, facts, deps)
  const { spec, log } = deps
  const capacity = {
    sequences: config.sequences,
    totalTokens: Math.min(config.totalTokens, spec.maxPositions, facts.totalTokens ?? Number.POSITIVE_INFINITY),
    slots: Math.min(config.slots, facts.slots ?? Number.POSITIVE_INFINITY),
    maxRank: Math.min(config.maxRank, facts.maxRank ?? Number.POSITIVE_INFINITY),
  }
  const slots = await RemoteSlots.open(slotsConfig(config, capacity.slots, baseLayout(spec)), { server, log }, facts.adapters)
  log('info', 'a server computes for this worker', { kind: server.kind, url: http.url, model: facts.model, ...capacity })
  return new RemoteEngine({ server, slots, spec, capacity, facts })
}

function slotsConfig({ folder, folderAtServer }: RemoteConfig, slots: number, layout: BaseLayout) {
  return { slots, layout, folder, folderAtServer: folderAtServer === '' ? folder : folderAtServer }
}

class RemoteEngine implements StreamingEngine {
  readonly model: ModelSpec
  readonly capacity: StreamingEngine['capacity']
  readonly description: StreamingEngine['description']
  readonly keepsSeeds: boolean
  readonly slots: number
  readonly #server: RemoteServer
  readonly #slots: RemoteSlots

  constructor(parts: {
    readonly server: RemoteServer
    readonly slots: RemoteSlots
    readonly spec: ModelSpec
    readonly capacity: StreamingEngine['capacity']
    readonly facts: ServerFacts
  }) {
    this.#server = parts.server
    this.#slots = parts.slots
    this.model = parts.spec
    this.capacity = parts.capacity
    this.slots = parts.capacity.slots
    this.keepsSeeds = parts.facts.keepsSeeds
    this.description = { kind: 'remote', device: parts.server.kind, lora: parts.server.kind }
  }

  loadAdapter(...load: Parameters<StreamingEngine['loadAdapter']>): Promise<void> {
    return this.#slots.loadAdapter(...load)
  }

  clearSlot(slot: SlotIndex): void {
    this.#slots.clearSlot(slot)
  }

  refuse(request: RunRequest): void {
    const lacking = commonLack(request) ?? this.#server.lacks(request)
    if (lacking === undefined) return
    throw new ServingError(
      'invalid_parameters',
      `${lacking} cannot be had of the ${titles[this.#server.kind]} server behind this worker: leave it out`,
    )
  }

  async *generate({ slot, ...text }: TextRequest, signal: AbortSignal): AsyncIterable<TextPart> {
    if (slot === BASE_SLOT) {
      yield* this.#server.generate({ ...text, adapter: undefined }, signal)
      return
    }
    const { name: adapter, reloads } = this.#slots.occupant(slot)
    let hasBegun = false
    try {
      for await (const part of this.#server.generate({ ...text, adapter }, signal)) {
        hasBegun = true
        yield part
      }
    } catch (thrown) {
      // A server that was restarted has forgotten its adapters, and says so in words of its own: its list is asked instead.
      if (hasBegun || signal.aborted) throw thrown
      const isBack = () => this.#slots.occupant(slot).reloads !== reloads
      if (!isBack() && (await this.#hasForgotten(adapter)) && !signal.aborted) await this.#slots.reload(slot, reloads)
      if (signal.aborted || !isBack()) throw thrown
      yield* this.#server.generate({ ...text, adapter }, signal)
    }
  }

  async close(): Promise<void> {
    await this.#slots.close()
  }

  async #hasForgotten(adapter: string): Promise<boolean> {
    try {
      return !(await this.#server.adapters()).includes(adapter)
    } catch {
      return false // It cannot even be asked: the first failure says more.
    }
  }
}

/** What neither of them can do. */
function commonLack({ goal, sampling }: RunRequest): string | undefined {
  if (goal === 'embedding') return 'an embedding'
  if (sampling.typicalP !== undefined) return '`typical_p`'
  if (sampling.watermark !== undefined) return '`watermark`'
  return undefined
}

async function serverOf(kind: RemoteConfig['kind'], http: RemoteHttp): Promise<RemoteServer> {
  switch (kind === 'auto' ? await kindOf(http) : kind) {
    case 'vllm':
      return new VllmServer(http)
    case 'sglang':
      return new SglangServer(http)
  }
}

/** vLLM tells its version; SGLang tells of its model. */
async function kindOf(http: RemoteHttp): Promise<RemoteKind> {
  for (const path of ['/model_info', '/get_model_info']) {
    const { status } = await http.ask(path, { timeoutMs: questionMs })
    if (status === 200) return 'sglang'
  }
  const { status } = await http.ask('/version', { timeoutMs: questionMs })
  if (status === 200) return 'vllm'
  throw new ServingError(
    'invalid_request',
    `what listens at ${http.url} is neither vLLM nor SGLang: it answers neither /version nor /model_info. Check --remote, or say --remote-kind`,
  )
}

function refuseOtherModel(facts: ServerFacts, config: RemoteConfig, { spec }: RemoteEngineDeps): void {
  if (config.model !== '') return
  const own = lastPart(spec.id)
  if ([facts.model, facts.modelPath ?? ''].some((name) => lastPart(name) === own)) return
  throw new ServingError(
    'invalid_request',
    `the server at ${config.url} serves ${JSON.stringify(facts.model)}, and this worker's model is ${JSON.stringify(spec.id)}: ` +
      `change --model or --remote, or say --remote-model ${facts.model} if they are the same`,
  )
}

/** `org/Name` and `/models/name/` are called the same. */
function lastPart(name: string): string {
  return (
    name
      .split('/')
      .findLast((part) => part !== '')
      ?.toLowerCase() ?? ''
  )
}

async function refuseOtherTokenizer(server: RemoteServer, facts: ServerFacts, deps: RemoteEngineDeps): Promise<void> {
  const theirs = await server.tokenize(PROBE)
  if (theirs === undefined) {
    deps.log('warn', 'the server cannot be asked for tokens: whether its tokenizer is the same was not checked', {})
    return
  }
  const ours = deps.tokenizer.encode(PROBE, { addSpecial: false })
  if (ours.length === theirs.length && ours.every((id, index) => id === theirs[index])) return
  throw new ServingError(
    'invalid_request',
    `the served model ${JSON.stringify(facts.model)} has another tokenizer than this worker's model ${JSON.stringify(deps.spec.id)}: ` +
      'give the same model with --model',
  )
}
