import { readFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { z } from 'zod'

export interface RemoteStubOptions {
  readonly kind: 'vllm' | 'sglang'
  /** What it calls its base model. */
  readonly model: string
  readonly vocabSize: number
  /** Its tokens of a text; absent: it cannot be asked. */
  readonly tokenize?: (text: string) => readonly number[]
  readonly totalTokens?: number
  readonly slots?: number
  /** SGLang: each event lists the new tokens alone instead of all. */
  readonly isIncremental?: boolean
  readonly isDeterministic?: boolean
  /** The token that ends a text; it never comes by itself. */
  readonly endId?: number
}

/** What goes wrong with the next texts; each field is used up by one text. */
export interface StubFaults {
  /** Answers this status and says why. */
  refuse?: { readonly status: number; readonly message: string }
  /** Cuts the connection after so many tokens. */
  cutAfter?: number
  /** Says in the stream, after so many tokens, that it failed. */
  failAfter?: number
  /** Ends the text too early, after so many tokens. */
  endAfter?: number
  /** Sends no more after so many tokens, until its client leaves. */
  hangAfter?: number
  /** Answers with a redirect. */
  redirectTo?: string
}

const vllmSchema = z.object({
  model: z.string(),
  prompt: z.array(z.int()),
  max_tokens: z.int(),
  stop_token_ids: z.array(z.int()),
  logprobs: z.int(),
  echo: z.boolean(),
  stream: z.literal(true),
  return_token_ids: z.literal(true),
  return_tokens_as_token_ids: z.literal(true),
})
const sglangSchema = z.object({
  input_ids: z.array(z.int()),
  lora_path: z.string().optional(),
  top_logprobs_num: z.int(),
  logprob_start_len: z.int(),
  stream: z.literal(true),
  return_logprob: z.literal(true),
  sampling_params: z.object({ max_new_tokens: z.int(), stop_token_ids: z.array(z.int()) }),
})
const loadSchema = z.object({ lora_name: z.string(), lora_path: z.string() })

interface StubText {
  readonly adapter: string | undefined
  readonly promptIds: readonly number[]
  readonly count: number
  readonly endIds: readonly number[]
  readonly alternatives: number
  readonly isEchoed: boolean
}

/** The token that follows others with one adapter: what a test expects of every text. */
export function stubToken(tokens: readonly number[], adapter: string | undefined, vocabSize: number): number {
  let hash = adapter === undefined ? 7 : 11
  for (const character of adapter ?? '') hash = (hash * 31 + character.charCodeAt(0)) % 1_000_003
  for (const token of tokens) hash = (hash * 33 + token) % 1_000_003
  return 1 + (hash % (vocabSize - 1))
}

/** A text's tokens. */
export function stubTokens(
  promptIds: readonly number[],
  adapter: string | undefined,
  { count, vocabSize }: { readonly count: number; readonly vocabSize: number },
): number[] {
  const tokens = [...promptIds]
  while (tokens.length < promptIds.length + count) tokens.push(stubToken(tokens, adapter, vocabSize))
  return tokens.slice(promptIds.length)
}

/** What the stub says of any token's log-probability. */
export const stubLogprob = (id: number) => -id / 128

/** A server that speaks what Quiver uses of vLLM's or SGLang's API, computes nothing, and fails as it is told to. */
export class RemoteStub {
  readonly adapters = new Map<string, string>()
  readonly loads: string[] = []
  readonly unloads: string[] = []
  /** Bodies of the texts that were asked for, whole. */
  readonly asked: unknown[] = []
  /** Texts whose client left before the end. */
  left = 0
  /** Texts that are being sent. */
  open = 0
  faults: StubFaults = {}
  loadRefusal: string | undefined
  /** Awaited by each load. */
  duringLoad: () => Promise<void> = async () => {}
  /** Awaited before the list of models is made. */
  beforeList: () => Promise<void> = async () => {}
  readonly #options: RemoteStubOptions
  readonly #server: Server

  private constructor(options: RemoteStubOptions) {
    this.#options = options
    this.#server = createServer((request, response) => void this.#answer(request, response))
  }

  static async start(options: RemoteStubOptions, port = 0): Promise<RemoteStub> {
    const stub = new RemoteStub(options)
    await new Promise<void>((resolve) => stub.#server.listen(port, '127.0.0.1', resolve))
    return stub
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  /** As a restart does. */
  forget(): void {
    this.adapters.clear()
  }

  async stop(): Promise<void> {
    if (!this.#server.listening) return
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await bodyOf(request)
    const route = `${request.method} ${request.url}`
    const { kind, tokenize } = this.#options
    if (route === 'GET /v1/models') {
      await this.beforeList()
      return json(response, 200, this.#models())
    }
    if (route === 'POST /tokenize' && tokenize !== undefined) {
      return json(response, 200, { tokens: tokenize(z.object({ prompt: z.string() }).parse(body).prompt) })
    }
    if (kind === 'vllm') return await this.#answerVllm(route, body, response)
    return await this.#answerSglang(route, body, response)
  }

  async #answerVllm(route: string, body: unknown, response: ServerResponse): Promise<void> {
    const { slots } = this.#options
    switch (route) {
      case 'GET /version':
        return json(response, 200, { version: '0.32.0' })
      case 'GET /metrics':
        return text(response, slots === undefined ? '' : `# TYPE\nvllm:lora_requests_info{max_lora="${slots}",x=""} 1.0\n`)
      case 'POST /v1/load_lora_adapter':
        return await this.#load(body, response, (status, message) => json(response, status, { error: { message } }))
      case 'POST /v1/unload_lora_adapter':
        return this.#unload(body, response, () => json(response, 404, { error: { message: 'no such adapter' } }))
      case 'POST /v1/completions': {
        const asked = vllmSchema.parse(body)
        const adapter = asked.model === this.#options.model ? undefined : asked.model
        if (adapter !== undefined && !this.adapters.has(adapter)) {
          return json(response, 404, { error: { message: `The model \`${adapter}\` does not exist.`, code: 404 } })
        }
        return await this.#send(body, response, {
          adapter,
          promptIds: asked.prompt,
          count: asked.max_tokens,
          endIds: asked.stop_token_ids,
          alternatives: asked.logprobs,
          isEchoed: asked.echo,
        })
      }
      default:
        return json(response, 404, { detail: 'Not Found' })
    }
  }

  async #answerSglang(route: string, body: unknown, response: ServerResponse): Promise<void> {
    const { slots, model, isDeterministic = false } = this.#options
    switch (route) {
      case 'GET /get_model_info':
        return json(response, 200, { model_path: `/models/${model}`, is_generation: true })
      case 'GET /get_server_info':
        return json(response, 200, {
          max_loras_per_batch: slots ?? 8,
          max_lora_rank: 32,
          enable_deterministic_inference: isDeterministic,
        })
      case 'POST /load_lora_adapter':
        return await this.#load(body, response, (status, message) =>
          json(response, status, { success: false, error_message: message }),
        )
      case 'POST /unload_lora_adapter':
        return this.#unload(body, response, () => json(response, 400, { success: false, error_message: 'not loaded' }))
      case 'POST /generate': {
        const asked = sglangSchema.parse(body)
        return await this.#send(body, response, {
          adapter: asked.lora_path,
          promptIds: asked.input_ids,
          count: asked.sampling_params.max_new_tokens,
          endIds: asked.sampling_params.stop_token_ids,
          alternatives: asked.top_logprobs_num,
          isEchoed: asked.logprob_start_len === 0,
        })
      }
      default:
        return json(response, 404, { detail: 'Not Found' })
    }
  }

  #models() {
    const { model, totalTokens } = this.#options
    const base = { id: model, root: `/models/${model}`, parent: null, max_model_len: totalTokens ?? 4096 }
    return { data: [base, ...Array.from(this.adapters, ([id, root]) => ({ id, root, parent: model, max_model_len: null }))] }
  }

  /** Reads the folder as the real ones do: a path that is wrong, or a file that is not whole, is refused. */
  async #load(body: unknown, response: ServerResponse, refuse: (status: number, message: string) => void): Promise<void> {
    const { lora_name: name, lora_path: folder } = loadSchema.parse(body)
    await this.duringLoad()
    if (this.loadRefusal !== undefined) return refuse(400, this.loadRefusal)
    if (this.adapters.has(name)) return refuse(400, `The lora adapter '${name}' has already been loaded.`)
    try {
      JSON.parse(await readFile(path.join(folder, 'adapter_config.json'), 'utf8'))
      await readFile(path.join(folder, 'adapter_model.safetensors'))
    } catch {
      return refuse(404, `No adapter found for ${folder}`)
    }
    this.adapters.set(name, folder)
    this.loads.push(name)
    text(response, 'Success')
  }

  #unload(body: unknown, response: ServerResponse, refuse: () => void): void {
    const { lora_name: name } = loadSchema.pick({ lora_name: true }).parse(body)
    if (!this.adapters.delete(name)) {
      refuse()
      return
    }
    this.unloads.push(name)
    text(response, 'Success')
  }

  async #send(body: unknown, response: ServerResponse, asked: StubText): Promise<void> {
    this.asked.push(body)
    const faults = this.faults
    this.faults = {}
    if (faults.redirectTo !== undefined) {
      response.writeHead(307, { location: faults.redirectTo }).end()
      return
    }
    if (faults.refuse !== undefined) return json(response, faults.refuse.status, { error: { message: faults.refuse.message } })
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.flushHeaders()
    const event = (value: unknown) => response.write(`data: ${JSON.stringify(value)}\n\n`)
    if (asked.adapter !== undefined && !this.adapters.has(asked.adapter)) {
      event({ error: { message: `adapter ${asked.adapter} is not loaded` } })
      response.end('data: [DONE]\n\n')
      return
    }
    this.open += 1
    response.once('close', () => {
      this.open -= 1
      if (!response.writableFinished) this.left += 1
    })
    const tokens = this.#tokensOf(asked)
    for (const index of tokens.keys()) {
      if (index === faults.cutAfter) return void response.destroy()
      if (index === faults.hangAfter) return
      if (index === faults.endAfter) break
      if (index === faults.failAfter) {
        event({ error: { message: 'the engine is dead' } })
        break
      }
      event(this.#options.kind === 'vllm' ? this.#vllmEvent(asked, tokens, index) : this.#sglangEvent(asked, tokens, index))
      await new Promise(setImmediate)
      if (response.destroyed) return
    }
    response.end('data: [DONE]\n\n')
  }

  #tokensOf({ promptIds, adapter, count, endIds }: StubText): number[] {
    const tokens = stubTokens(promptIds, adapter, { count, vocabSize: this.#options.vocabSize })
    const end = tokens.findIndex((token) => endIds.includes(token))
    return end === -1 ? tokens : tokens.slice(0, end + 1)
  }

  /** The most likely tokens beside one: itself, and those after it. */
  #best(id: number, count: number): number[] {
    return Array.from({ length: Math.max(1, count) }, (_, index) => (id + index) % this.#options.vocabSize)
  }

  #vllmEvent({ promptIds, alternatives, isEchoed }: StubText, tokens: readonly number[], index: number) {
    const id = tokens[index] ?? 0
    const echoed = isEchoed && index === 0 ? promptIds : []
    return {
      choices: [
        {
          index: 0,
          text: 'not read',
          token_ids: [id],
          finish_reason: index === tokens.length - 1 ? 'length' : null,
          logprobs: {
            tokens: [...echoed, id].map((token) => `token_id:${token}`),
            token_logprobs: [...echoed.map((token, at) => (at === 0 ? null : stubLogprob(token))), stubLogprob(id)],
            top_logprobs: [
              ...echoed.map(() => null),
              Object.fromEntries(this.#best(id, alternatives).map((token, at) => [`token_id:${token}`, stubLogprob(id) - at])),
            ],
          },
        },
      ],
    }
  }

  #sglangEvent({ promptIds, alternatives, isEchoed }: StubText, tokens: readonly number[], index: number) {
    const shown = this.#options.isIncremental === true ? tokens.slice(index, index + 1) : tokens.slice(0, index + 1)
    return {
      text: 'not read',
      meta_info: {
        id: 'stub',
        finish_reason: index === tokens.length - 1 ? { type: 'length', length: tokens.length } : null,
        prompt_tokens: promptIds.length,
        completion_tokens: index + 1,
        input_token_logprobs: isEchoed ? promptIds.map((token, at) => [at === 0 ? null : stubLogprob(token), token, null]) : [],
        output_token_logprobs: shown.map((token) => [stubLogprob(token), token, null]),
        output_top_logprobs: shown.map((id) =>
          this.#best(id, alternatives).map((token, at) => [stubLogprob(id) - at, token, null]),
        ),
      },
    }
  }
}

async function bodyOf(request: IncomingMessage): Promise<unknown> {
  let body = ''
  for await (const chunk of request) body += String(chunk)
  return body === '' ? undefined : JSON.parse(body)
}

function json(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

function text(response: ServerResponse, body: string): void {
  response.writeHead(200, { 'content-type': 'text/plain' }).end(body)
}
