/**
 * The native API of SGLang (its srt/entrypoints/http_server.py, managers/io_struct.py and sampling/sampling_params.py): started
 * with `--enable-lora`, `--max-lora-rank` and `--lora-target-modules`, which it needs to take adapters later.
 */
import { type RunRequest, ServingError } from '@quiver/protocol'
import { z } from 'zod'
import type { TextPart } from '../streaming-engine.ts'
import { eventsOf } from './event-lines.ts'
import { adapterNames, listedModels, servedModel } from './model-list.ts'
import { at, type RemoteHttp, reasonOf } from './remote-http.ts'
import { loadMs, questionMs, type RemoteServer, type ServerFacts, type ServerText } from './remote-server.ts'
import { grammarOf, refusalOf, samplingOf, seedOf, textTokens } from './shared-parts.ts'

const modelInfoSchema = z.object({ model_path: z.string() })
const serverInfoSchema = z.object({
  max_loras_per_batch: z.int().positive().nullish(),
  max_lora_rank: z.int().positive().nullish(),
  enable_deterministic_inference: z.boolean().nullish(),
})

/** [log-probability, token, text or null] */
const tokenSchema = z.tuple([z.number().nullable(), z.int().nonnegative()], z.unknown())
const eventSchema = z.object({
  meta_info: z.object({
    completion_tokens: z.int().nonnegative(),
    input_token_logprobs: z.array(tokenSchema).nullish(),
    output_token_logprobs: z.array(tokenSchema).nullish(),
    output_top_logprobs: z.array(z.array(tokenSchema).nullable()).nullish(),
  }),
})

const REPETITION_PENALTY_AT_MOST = 2

export class SglangServer implements RemoteServer {
  readonly kind = 'sglang'
  readonly #http: RemoteHttp
  #model = ''

  constructor(http: RemoteHttp) {
    this.#http = http
  }

  async facts(named: string): Promise<ServerFacts> {
    const models = await listedModels(this.#http)
    const base = servedModel(models, named, this.#http.url)
    this.#model = base.id
    const modelInfo = modelInfoSchema.safeParse(await this.#first('/model_info', '/get_model_info')).data
    const serverInfo = serverInfoSchema.safeParse(await this.#first('/server_info', '/get_server_info')).data
    return {
      model: base.id,
      modelPath: modelInfo?.model_path,
      totalTokens: base.max_model_len ?? undefined,
      slots: serverInfo?.max_loras_per_batch ?? undefined,
      maxRank: serverInfo?.max_lora_rank ?? undefined,
      keepsSeeds: serverInfo?.enable_deterministic_inference === true,
      adapters: adapterNames(models),
    }
  }

  tokenize(text: string): Promise<readonly number[] | undefined> {
    return textTokens(this.#http, this.#model, text)
  }

  async load(name: string, folder: string): Promise<void> {
    const body = { lora_name: name, lora_path: folder }
    const answer = await this.#http.ask('/load_lora_adapter', { body, timeoutMs: loadMs })
    if (answer.status === 200 && at(answer.body, 'success') !== false) return
    throw new ServingError('adapter_unavailable', `the SGLang server did not take the adapter: ${reasonOf(answer)}`)
  }

  /** It refuses an unknown name with the same status as anything else: what counts is that the name is gone. */
  async unload(name: string): Promise<void> {
    const answer = await this.#http.ask('/unload_lora_adapter', { body: { lora_name: name }, timeoutMs: questionMs })
    if (answer.status === 200 && at(answer.body, 'success') !== false) return
    if ((await this.adapters()).includes(name)) throw this.#http.lost(`an adapter was not unloaded: ${reasonOf(answer)}`)
  }

  async adapters(): Promise<readonly string[]> {
    return adapterNames(await listedModels(this.#http))
  }

  lacks({ sampling }: RunRequest): string | undefined {
    if ((sampling.repetitionPenalty ?? 1) > REPETITION_PENALTY_AT_MOST) {
      return `a \`repetition_penalty\` above ${REPETITION_PENALTY_AT_MOST}`
    }
    return undefined
  }

  async *generate(text: ServerText, signal: AbortSignal): AsyncIterable<TextPart> {
    const response = await this.#http.open('/generate', requestOf(text), signal)
    if (response.status !== 200) throw await refusalOf(this.#http, 'SGLang', response)
    let taken = 0
    try {
      for await (const event of eventsOf(response.body)) {
        this.#throwError(event, taken)
        const { meta_info: meta } = eventSchema.parse(event)
        if (meta.completion_tokens === taken) continue
        if (taken === 0 && text.promptDetails) yield promptOf(meta.input_token_logprobs ?? [], text.promptIds.length)
        yield* tokensOf(meta, { taken, alternatives: text.alternatives })
        taken = meta.completion_tokens
      }
    } catch (thrown) {
      throw thrown instanceof ServingError ? thrown : this.#http.lost('its answer broke off', thrown)
    }
  }

  /** What it refuses is told in the stream, whose status is 200 by then. */
  #throwError(event: unknown, taken: number): void {
    if (at(event, 'error') === undefined && at(event, 'meta_info', 'finish_reason', 'type') !== 'abort') return
    const why = at(event, 'meta_info', 'finish_reason', 'message')
    const reason = typeof why === 'string' ? why : reasonOf({ status: 500, body: event })
    if (taken > 0) throw this.#http.lost(reason)
    throw new ServingError('invalid_parameters', `the SGLang server refuses this: ${reason}`)
  }

  /** The newer name of a question, else the older one. */
  async #first(path: string, olderPath: string): Promise<unknown> {
    const answer = await this.#http.ask(path, { timeoutMs: questionMs })
    return answer.status === 200 ? answer.body : (await this.#http.ask(olderPath, { timeoutMs: questionMs })).body
  }
}

type Meta = z.infer<typeof eventSchema>['meta_info']
type Token = z.infer<typeof tokenSchema>

/**
 * The tokens of an event that were not in those before. A server lists all tokens since the beginning in every event, or, with
 * `--incremental-streaming-output`, the new ones alone; how many there are in all tells which.
 */
function* tokensOf(
  meta: Meta,
  { taken, alternatives }: { readonly taken: number; readonly alternatives: number },
): Iterable<TextPart> {
  const tokens = meta.output_token_logprobs ?? []
  const top = meta.output_top_logprobs ?? []
  const fresh = meta.completion_tokens - taken
  if (tokens.length !== fresh && tokens.length !== meta.completion_tokens)
    throw new Error('tokens without their log-probabilities')
  const from = tokens.length - fresh
  for (const [index, [logprob, id]] of tokens.slice(from).entries()) {
    const best = (top[from + index] ?? []).slice(0, alternatives)
    yield {
      type: 'token',
      id,
      logprob: numberOf(logprob),
      topIds: best.map(([, token]) => token),
      topLogprobs: best.map(([value]) => numberOf(value)),
    }
  }
}

function promptOf(tokens: readonly Token[], length: number): TextPart {
  if (tokens.length !== length) throw new Error(`${tokens.length} log-probabilities of a prompt of ${length} tokens`)
  return { type: 'prompt', logprobs: tokens.slice(1).map(([logprob]) => numberOf(logprob)) }
}

function numberOf(logprob: number | null): number {
  if (logprob === null) throw new Error('a token without its log-probability')
  return logprob
}

function requestOf(text: ServerText) {
  const { adapter, promptIds, maxNewTokens, endTokenIds, alternatives, promptDetails, grammar, seed } = text
  return {
    input_ids: promptIds,
    stream: true,
    return_logprob: true,
    top_logprobs_num: alternatives,
    logprob_start_len: promptDetails ? 0 : -1,
    ...(adapter === undefined ? {} : { lora_path: adapter }),
    sampling_params: {
      max_new_tokens: maxNewTokens,
      ...samplingOf(text, { allTokens: -1 }),
      ...(seed === undefined ? {} : { sampling_seed: seedOf(seed) }),
      ignore_eos: grammar === undefined,
      stop_token_ids: endTokenIds,
      ...(grammar === undefined ? {} : structuredOutputs(grammar)),
    },
  }
}

function structuredOutputs(grammar: NonNullable<ServerText['grammar']>) {
  const asked = grammarOf(grammar)
  return asked.kind === 'json' ? { json_schema: asked.schema } : { regex: asked.pattern }
}
