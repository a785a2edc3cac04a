/**
 * The OpenAI server of vLLM, as of 0.32 (its entrypoints/openai and entrypoints/serve, and what one answered): started with
 * `--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True.
 */
import { type Grammar, type RunRequest, ServingError } from '@quiver/protocol'
import { z } from 'zod'
import type { TextPart } from '../streaming-engine.ts'
import { eventsOf } from './event-lines.ts'
import { adapterNames, listedModels, servedModel } from './model-list.ts'
import { at, type RemoteHttp, reasonOf } from './remote-http.ts'
import { loadMs, questionMs, type RemoteServer, type ServerFacts, type ServerText } from './remote-server.ts'
import { grammarOf, refusalOf, samplingOf, seedOf, textTokens } from './shared-parts.ts'

const eventSchema = z.object({
  choices: z.array(
    z.object({
      token_ids: z.array(z.int().nonnegative()).nullish(),
      logprobs: z
        .object({
          token_logprobs: z.array(z.number().nullable()),
          top_logprobs: z.array(z.record(z.string(), z.number()).nullable()),
        })
        .nullish(),
    }),
  ),
})

/** vLLM's default for `--max-logprobs`. */
const ALTERNATIVES_AT_MOST = 20

export class VllmServer implements RemoteServer {
  readonly kind = 'vllm'
  readonly #http: RemoteHttp
  #model = ''

  constructor(http: RemoteHttp) {
    this.#http = http
  }

  async facts(named: string): Promise<ServerFacts> {
    const models = await listedModels(this.#http)
    const base = servedModel(models, named, this.#http.url)
    this.#model = base.id
    return {
      model: base.id,
      modelPath: base.root ?? undefined,
      totalTokens: base.max_model_len ?? undefined,
      slots: await this.#slots(),
      maxRank: undefined,
      keepsSeeds: true,
      adapters: adapterNames(models),
    }
  }

  tokenize(text: string): Promise<readonly number[] | undefined> {
    return textTokens(this.#http, this.#model, text)
  }

  async load(name: string, folder: string): Promise<void> {
    const body = { lora_name: name, lora_path: folder }
    const answer = await this.#http.ask('/v1/load_lora_adapter', { body, timeoutMs: loadMs })
    if (answer.status === 200) return
    // Answered by the router itself, which says no more than this, when the route is not there.
    const isAbsent = answer.status === 404 && at(answer.body, 'detail') === 'Not Found'
    const hint = isAbsent ? ': start it with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True' : ''
    throw new ServingError('adapter_unavailable', `the vLLM server did not take the adapter: ${reasonOf(answer)}${hint}`)
  }

  async unload(name: string): Promise<void> {
    const answer = await this.#http.ask('/v1/unload_lora_adapter', { body: { lora_name: name }, timeoutMs: questionMs })
    if (answer.status !== 200 && answer.status !== 404) throw this.#http.lost(`an adapter was not unloaded: ${reasonOf(answer)}`)
  }

  async adapters(): Promise<readonly string[]> {
    return adapterNames(await listedModels(this.#http))
  }

  lacks({ alternatives }: RunRequest): string | undefined {
    if (alternatives <= ALTERNATIVES_AT_MOST) return undefined
    return `more than ${ALTERNATIVES_AT_MOST} alternatives to a token (\`top_n_tokens\`, \`return_k_alternatives\`, \`top_logprobs\`)`
  }

  async *generate(text: ServerText, signal: AbortSignal): AsyncIterable<TextPart> {
    const response = await this.#http.open('/v1/completions', requestOf(text, this.#model), signal)
    if (response.status !== 200) throw await refusalOf(this.#http, 'vLLM', response)
    let isFirst = text.promptDetails
    try {
      for await (const event of eventsOf(response.body)) {
        const choice = this.#choiceOf(event)
        const count = choice?.token_ids?.length ?? 0
        if (choice === undefined || count === 0) continue
        yield* partsOf(choice, text, isFirst)
        isFirst = false
      }
    } catch (thrown) {
      throw thrown instanceof ServingError ? thrown : this.#http.lost('its answer broke off', thrown)
    }
  }

  #choiceOf(event: unknown) {
    const error = at(event, 'error')
    if (error !== undefined) throw this.#http.lost(reasonOf({ status: 500, body: event }))
    return eventSchema.parse(event).choices[0]
  }

  /** `--max-loras`, which it tells only among its metrics, and only once an adapter was used. */
  async #slots(): Promise<number | undefined> {
    const { body } = await this.#http.ask('/metrics', { timeoutMs: questionMs })
    const found =
      typeof body === 'string' ? /^vllm:lora_requests_info\{[^\n]*max_lora="([1-9][0-9]*)"/m.exec(body)?.[1] : undefined
    return found === undefined ? undefined : Number(found)
  }
}

type Choice = z.infer<typeof eventSchema>['choices'][number]

/** `return_token_ids` gives the generated tokens alone; with `echo` the log-probabilities of the prompt stand before theirs. */
function* partsOf(
  { token_ids, logprobs }: Choice,
  { alternatives, promptIds }: ServerText,
  isEchoed: boolean,
): Iterable<TextPart> {
  const [ids, chosen, top] = [token_ids ?? [], logprobs?.token_logprobs ?? [], logprobs?.top_logprobs ?? []]
  const before = isEchoed ? promptIds.length : 0
  if (chosen.length !== before + ids.length) throw new Error('tokens without their log-probabilities')
  if (isEchoed) yield { type: 'prompt', logprobs: chosen.slice(1, before).map(numberOf) }
  for (const [index, id] of ids.entries()) {
    const best = Object.entries(top[before + index] ?? {})
      .map(([token, logprob]) => ({ id: Number(token.replace(/^token_id:/, '')), logprob }))
      .toSorted((a, b) => b.logprob - a.logprob)
      .slice(0, alternatives)
    yield {
      type: 'token',
      id,
      logprob: numberOf(chosen[before + index]),
      topIds: best.map((token) => token.id),
      topLogprobs: best.map((token) => token.logprob),
    }
  }
}

function numberOf(logprob: number | null | undefined): number {
  if (typeof logprob !== 'number') throw new Error('a token without its log-probability')
  return logprob
}

function requestOf(text: ServerText, model: string) {
  const { adapter, promptIds, maxNewTokens, endTokenIds, alternatives, promptDetails, grammar, seed } = text
  return {
    model: adapter ?? model,
    prompt: promptIds,
    stream: true,
    max_tokens: maxNewTokens,
    ...samplingOf(text, { allTokens: 0 }),
    ...(seed === undefined ? {} : { seed: seedOf(seed) }),
    // The tokens that end a text are said, so that they are Quiver's; the server's own list may be another.
    ignore_eos: grammar === undefined,
    stop_token_ids: endTokenIds,
    logprobs: alternatives,
    echo: promptDetails,
    return_token_ids: true,
    return_tokens_as_token_ids: true,
    ...(grammar === undefined ? {} : { structured_outputs: structuredOutputs(grammar) }),
  }
}

function structuredOutputs(grammar: Grammar) {
  const asked = grammarOf(grammar)
  return asked.kind === 'json' ? { json: asked.schema } : { regex: asked.pattern }
}
