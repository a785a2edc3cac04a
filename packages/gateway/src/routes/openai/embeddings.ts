/** `POST /v1/embeddings`: the mean of a text's last hidden states, with the adapter applied. */
import { limits, type RunRequest, type WorkerInfo } from '@quiver/protocol'
import { adapterSource, withBearerToken } from '../adapter-source.ts'
import { logFailure } from '../error-response.ts'
import { type Exchange, type NodeExchange, openExchange } from '../exchange.ts'
import { parameterChecks, runChecks } from '../generate-checks.ts'
import { readJsonBody } from '../json-body.ts'
import { timingHeaders } from '../lorax-answer.ts'
import { toRunRequest } from '../run-request.ts'
import { servedModel } from '../served-model.ts'
import { answerHeaders } from './answer-headers.ts'
import type { OpenaiDeps } from './complete.ts'
import { collectEmbeddings, type Embedded, numbersOf } from './embedding-runs.ts'
import { type EmbeddingsRequest, parseEmbeddingsRequest } from './embeddings-schema.ts'
import { adapterIdOf } from './model-name.ts'
import { openaiErrorResponse } from './respond.ts'

const adapterChecks = parameterChecks.filter(({ field }) => field === 'adapter_id' || field === 'api_token')

/** Answers one request. Never rejects: every failure is an answer. */
export async function answerEmbeddings(deps: OpenaiDeps, node: NodeExchange): Promise<Response> {
  const { clock, newId, shutdown, times } = deps
  const exchange = openExchange(node, { clock, newId, shutdown, deadlineMs: times.deadlineMs })
  const meter = deps.metrics.begin()
  try {
    const { value } = await readJsonBody(node.incoming, limits.requestBodyBytes)
    const parsed = parseEmbeddingsRequest(value)
    const request = { ...parsed, parameters: withBearerToken(parsed.parameters, node.incoming.headers.authorization) }
    const info = servedModel(deps.workers, { parameters: request.parameters, model: request.model, catalogue: deps.catalogue })
    const requests = toEmbeddingRuns(request, info, deps, exchange)
    const validationMs = clock.nowMs() - exchange.arrivedAtMs
    const results = await collectEmbeddings(deps, exchange, requests)
    meter.succeeded(validationMs)
    const totalMs = clock.nowMs() - exchange.arrivedAtMs
    const inputs = request.prompts.map((prompt) => (prompt.kind === 'text' ? prompt.text : '')).join('')
    const { model } = request
    const [run] = requests
    return new Response(bodyOf(request, results, model === '' ? info.model.id : model), {
      headers: {
        'content-type': 'application/json',
        ...answerHeaders({
          requestId: exchange.requestId,
          info,
          model,
          inputs,
          run,
          digest: results[0]?.digest,
          placed: exchange.placed,
        }),
        ...timingHeaders(wholeRun(results), { validationMs, totalMs }),
      },
    })
  } catch (error) {
    meter.failed(error)
    logFailure(deps.log, error, exchange.requestId)
    return openaiErrorResponse(error, exchange.requestId)
  } finally {
    exchange.close()
  }
}

function toEmbeddingRuns(request: EmbeddingsRequest, info: WorkerInfo, deps: OpenaiDeps, exchange: Exchange): RunRequest[] {
  const { catalogue, clientLimits, drawSeed, share, tenant } = deps
  const isInCatalogue = adapterSource(request.parameters) === 'store'
  const parameters = { ...request.parameters, adapter_id: adapterIdOf(request.model, { info, catalogue, isInCatalogue }) }
  const body = { inputs: '', parameters, stream: false }
  runChecks(adapterChecks, body, { inputTokens: info.limits.inputTokens, ...clientLimits })
  const { requestId } = exchange
  const context = {
    requestId,
    tenant,
    share,
    catalogue,
    drawSeed,
    base: info.model.id,
    seed: undefined,
    deadlineMs: exchange.remainingMs(),
  }
  const run = toRunRequest(body, context)
  return request.prompts.map((prompt) => ({ ...run, prompt, goal: 'embedding' }))
}

/** The slowest of the runs, with the tokens of all. */
function wholeRun(results: readonly Embedded[]): Embedded['done'] {
  const dones = results.map(({ done }) => done)
  const slowest = dones.reduce((longest, done) =>
    done.queueMs + done.inferenceMs > longest.queueMs + longest.inferenceMs ? done : longest,
  )
  return { ...slowest, promptTokens: promptTokens(results) }
}

function promptTokens(results: readonly Embedded[]): number {
  return results.reduce((sum, { done }) => sum + done.promptTokens, 0)
}

/** Written piece by piece: two thousand embeddings as numbers are some ten megabytes of text, whose making would hold up everybody. */
function bodyOf(request: EmbeddingsRequest, results: readonly Embedded[], model: string): ReadableStream<Uint8Array> {
  const pieces = jsonPieces(request, results, model)
  const encoder = new TextEncoder()
  return new ReadableStream({
    pull(controller) {
      const { done, value } = pieces.next()
      if (done === true) controller.close()
      else controller.enqueue(encoder.encode(value))
    },
  })
}

function* jsonPieces(request: EmbeddingsRequest, results: readonly Embedded[], model: string): Generator<string> {
  yield '{"object":"list","data":['
  for (const [index, { values }] of results.entries()) {
    const embedding = request.encoding === 'base64' ? values : numbersOf(values)
    yield `${index === 0 ? '' : ','}${JSON.stringify({ object: 'embedding', index, embedding })}`
  }
  const total = promptTokens(results)
  yield `],"model":${JSON.stringify(model)},"usage":${JSON.stringify({ prompt_tokens: total, total_tokens: total })}}`
}
