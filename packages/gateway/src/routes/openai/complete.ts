/** `POST /v1/completions` and `/v1/chat/completions`: from an OpenAI body to runs and back. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { type DoneEvent, limits, type RunRequest, ServingError, type WorkerInfo } from '@quiver/protocol'
import { within } from '../../clock.ts'
import type { RequestMeter } from '../../metrics/gateway-metrics.ts'
import { withBearerToken } from '../adapter-source.ts'
import { clientStream, frameOf, prepend, streamHeaders } from '../client-stream.ts'
import { logFailure } from '../error-response.ts'
import { type Exchange, type NodeExchange, openExchange } from '../exchange.ts'
import { jsonBody } from '../json-answer.ts'
import { readJsonBody } from '../json-body.ts'
import { timingHeaders } from '../lorax-answer.ts'
import type { PlainAnswer } from '../plain-answer.ts'
import { beginRun, byLikelihood, collectRuns, mergeRuns } from '../run-fan-out.ts'
import { exactSeed } from '../seed-text.ts'
import { servedModel } from '../served-model.ts'
import type { GenerateDeps } from '../start-run.ts'
import { answerHeaders } from './answer-headers.ts'
import { type AnswerHead, chunk, StreamedChoice, usageOf, wholeAnswer, wholeChoice } from './answers.ts'
import type { ApiRequest } from './api-request.ts'
import { inApiWords } from './api-words.ts'
import { parseChatRequest } from './chat-schema.ts'
import { parseCompletionRequest } from './completion-schema.ts'
import { toOpenaiError } from './envelope.ts'
import { openaiErrorResponse } from './respond.ts'
import { toRuns } from './to-runs.ts'

export interface OpenaiDeps extends GenerateDeps {
  readonly version: string
  /** Wall clock. */
  readonly now: () => Date
}

/** How long a stream's status waits for the first event of its runs: what is refused until then has a status of its own. */
const FIRST_EVENT_PATIENCE_MS = 1000

/** A request that was found valid, with all that belongs to answering it. */
interface Answering {
  readonly request: ApiRequest
  readonly runs: readonly RunRequest[]
  readonly exchange: Exchange
  readonly meter: RequestMeter
  readonly info: WorkerInfo
  readonly head: AnswerHead
  /** From arrival until the request was found valid. */
  readonly validationMs: number
}

/** Answers one request. Never rejects: every failure is an answer. */
export async function answerOpenai(
  deps: OpenaiDeps,
  kind: ApiRequest['kind'],
  node: NodeExchange,
): Promise<PlainAnswer | Response> {
  const { clock, newId, shutdown, times } = deps
  const exchange = openExchange(node, { clock, newId, shutdown, deadlineMs: times.deadlineMs })
  const meter = deps.metrics.begin()
  try {
    const json = await readJsonBody(node.incoming, limits.requestBodyBytes)
    const parsed = kind === 'chat' ? parseChatRequest(json.value) : parseCompletionRequest(json.value)
    const request = { ...parsed, parameters: withBearerToken(parsed.parameters, node.incoming.headers.authorization) }
    const info = servedModel(deps.workers, { parameters: request.parameters, model: request.model, catalogue: deps.catalogue })
    const runs = toRuns(request, info, {
      requestId: exchange.requestId,
      seed: givenSeed(json.text, request),
      drawSeed: deps.drawSeed,
      clientLimits: deps.clientLimits,
      deadlineMs: exchange.remainingMs(),
      tenant: deps.tenant,
      share: deps.share,
      catalogue: deps.catalogue,
      base: info.model.id,
    })
    const validationMs = clock.nowMs() - exchange.arrivedAtMs
    const answering = { request, runs, exchange, meter, info, head: headOf(deps, request, info), validationMs }
    return request.stream ? await answerStream(deps, answering) : await answerWhole(deps, answering)
  } catch (error) {
    exchange.close()
    meter.failed(error)
    logFailure(deps.log, error, exchange.requestId)
    return openaiErrorResponse(inApiWords(error, kind), exchange.requestId)
  }
}

async function answerWhole(deps: OpenaiDeps, answering: Answering): Promise<PlainAnswer> {
  const { request, runs, exchange, head, validationMs } = answering
  const results = await collectRuns(
    runs.map((run) => beginRun(deps, exchange, run)),
    exchange,
  )
  exchange.close()
  answering.meter.succeeded(validationMs)
  const chosen = request.prompts.flatMap((_, prompt) => {
    const ofPrompt = results.slice(prompt * request.runs, (prompt + 1) * request.runs)
    return request.runs > request.choices ? byLikelihood(ofPrompt).slice(0, request.choices) : ofPrompt
  })
  const dones = results.map(({ done }) => done)
  const choices: object[] = []
  for (const [index, result] of chosen.entries()) {
    if (index > 0) await nextTurn()
    choices.push(wholeChoice(request, head, index, result))
  }
  const answer = wholeAnswer(request, head, choices, usageOf(dones, request.runs))
  const slowest = dones.reduce((longest, done) =>
    done.queueMs + done.inferenceMs > longest.queueMs + longest.inferenceMs ? done : longest,
  )
  const totalMs = deps.clock.nowMs() - exchange.arrivedAtMs
  const listed =
    request.logprobs === undefined ? 0 : results.reduce((sum, run) => sum + run.tokens.length + run.prefill.length, 0)
  return {
    body: await jsonBody(answer, listed * (1 + (request.logprobs ?? 0))),
    headers: {
      'content-type': 'application/json',
      ...headers(answering, results[0]?.digest),
      ...timingHeaders(slowest, { validationMs, totalMs }),
    },
  }
}

async function answerStream(deps: OpenaiDeps, answering: Answering): Promise<PlainAnswer> {
  const { runs, exchange } = answering
  const events = mergeRuns(
    runs.map((run) => beginRun(deps, exchange, run)),
    exchange,
  )
  const first = events.next()
  const opening = await within(deps.clock, FIRST_EVENT_PATIENCE_MS, first)
  const event = opening?.done === true ? undefined : opening?.value.events.at(0)
  return {
    body: clientStream(frames(deps, answering, prepend(first, events)), deps, exchange),
    headers: {
      ...streamHeaders,
      ...headers(answering, event?.type === 'accepted' ? event.adapterDigest : undefined),
    },
  }
}

/** The events of the stream, those together that come together; `[DONE]` only after success. */
async function* frames(
  deps: OpenaiDeps,
  { request, runs, exchange, meter, head, validationMs }: Answering,
  events: ReturnType<typeof mergeRuns>,
): AsyncGenerator<string> {
  const frame = (body: object) => frameOf(` ${JSON.stringify(body)}`)
  const chunkFrame = chunkFrames(request, head)
  const choices = runs.map((_, index) => new StreamedChoice(request, head, index))
  const dones: DoneEvent[] = []
  try {
    for await (const { index, events: together } of events) {
      const choice = choices[index]
      if (choice === undefined) continue
      let text = ''
      for (const event of together) {
        if (event.type === 'prefill') choice.notePrefill(event.tokens)
        else if (event.type === 'accepted') {
          // An echo waits for the prompt's tokens.
          if (request.kind === 'chat') text += chunkFrame(choice.open())
        } else if (event.type === 'token') {
          text += chunkFrame(choice.open())
          for (const made of choice.push(event)) text += chunkFrame(made)
        } else if (event.type === 'done') {
          dones[index] = event
          for (const made of choice.end(event)) text += chunkFrame(made)
        }
      }
      if (text !== '') yield text
    }
    const usage = request.includeUsage ? frame(chunk(request, head, [], usageOf(dones, request.runs))) : ''
    yield `${usage}${frameOf(' [DONE]')}`
    meter.succeeded(validationMs)
  } catch (error) {
    meter.failed(error)
    logFailure(deps.log, error, exchange.requestId)
    yield frame(toOpenaiError(inApiWords(error, request.kind)).body)
  } finally {
    // Nobody reads on: whoever left, the answer was not given in full.
    meter.failed(new ServingError('client_closed', 'the client closed the connection'))
    exchange.close()
  }
}

/** Makes the events of a stream's choices: what all of them have in common is written once. */
function chunkFrames(request: ApiRequest, head: AnswerHead): (choice: object | undefined) => string {
  // Nothing that comes before the choices holds these characters.
  const [before = '', after = ''] = JSON.stringify(chunk(request, head, [])).split('"choices":[]')
  const begin = ` ${before}"choices":[`
  const end = `]${after}`
  return (choice) => (choice === undefined ? '' : frameOf(begin + JSON.stringify(choice) + end))
}

function headOf(deps: OpenaiDeps, request: ApiRequest, info: WorkerInfo): AnswerHead {
  return {
    id: `${request.kind === 'chat' ? 'chatcmpl' : 'cmpl'}-${deps.newId()}`,
    created: Math.floor(deps.now().getTime() / 1000),
    model: request.model === '' ? info.model.id : request.model,
    system_fingerprint: `quiver-${deps.version}`,
  }
}

/** OpenAI's seeds are signed; a negative one counts as the unsigned number of the same 64 bits. */
function givenSeed(body: string, { parameters: { seed } }: ApiRequest): string | undefined {
  if (seed === null || seed === undefined) return undefined
  if (Number.isSafeInteger(seed) && seed < 0) return String(BigInt.asUintN(64, BigInt(seed)))
  return exactSeed(body, seed, 'body')
}

function headers({ request, runs, exchange, info }: Answering, digest: string | undefined): Record<string, string> {
  const [first] = runs
  const inputs = request.prompts
    .map((prompt) => (prompt.kind === 'text' ? prompt.text : prompt.messages.map(({ content }) => content ?? '').join('')))
    .join('')
  return answerHeaders({
    requestId: exchange.requestId,
    info,
    model: request.model,
    inputs,
    run: first,
    digest,
    placed: exchange.placed,
  })
}
