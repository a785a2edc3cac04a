/** `POST /`, `/generate`, `/generate_stream`, `/invocations`: from a LoRAX body to a run and back. */
import { limits, ServingError, type TokenEvent, toServingError } from '@quiver/protocol'
import { within } from '../clock.ts'
import type { RequestMeter } from '../metrics/gateway-metrics.ts'
import { withBearerToken } from './adapter-source.ts'
import { clientStream, frameOf, streamHeaders } from './client-stream.ts'
import { errorResponse, logFailure } from './error-response.ts'
import { type NodeExchange, openExchange } from './exchange.ts'
import { type GenerateBody, parseGenerateBody } from './generate-schema.ts'
import { headerContext } from './header-context.ts'
import { jsonBody } from './json-answer.ts'
import { readJsonBody } from './json-body.ts'
import { commonHeaders, timingHeaders, toLoraxAnswer, toLoraxEvent } from './lorax-answer.ts'
import { toLoraxError } from './lorax-envelope.ts'
import type { PlainAnswer } from './plain-answer.ts'
import { beginRun, byLikelihood, type CollectedRun, collectRuns } from './run-fan-out.ts'
import { withFreshSeed } from './run-request.ts'
import { exactSeed } from './seed-text.ts'
import { type GenerateDeps, type Generation, type Run, startRun } from './start-run.ts'

/** `compat`: the body says whether to stream, and an answer comes as a list of one. */
export type GenerateMode = 'compat' | 'whole' | 'stream'

interface Measured extends Generation {
  readonly meter: RequestMeter
}

/** How long a stream's headers wait for the digest of an adapter that only the worker can name. */
const DIGEST_PATIENCE_MS = 1000

/** Answers one request. Never rejects: every failure is an answer. */
export async function answerGenerate(
  deps: GenerateDeps,
  mode: GenerateMode,
  node: NodeExchange,
): Promise<PlainAnswer | Response> {
  const { clock, newId, shutdown, times } = deps
  const exchange = openExchange(node, { clock, newId, shutdown, deadlineMs: times.deadlineMs })
  const meter = deps.metrics.begin()
  try {
    const json = await readJsonBody(node.incoming, limits.requestBodyBytes)
    const parsed = withSource(parseGenerateBody(json.value), deps.clientLimits.adapterSource)
    const body = { ...parsed, parameters: withBearerToken(parsed.parameters, node.incoming.headers.authorization) }
    const { seed } = body.parameters
    const generation = {
      body,
      seed: seed === null || seed === undefined ? undefined : exactSeed(json.text, seed),
      exchange,
      meter,
    }
    const isStream = mode === 'stream' || (mode === 'compat' && body.stream)
    return isStream ? await answerStream(deps, generation) : await answerWhole(deps, generation, mode)
  } catch (error) {
    exchange.close()
    meter.failed(error)
    logFailure(deps.log, error, exchange.requestId)
    return errorResponse(error, exchange.requestId)
  }
}

/** The operator's source for an adapter that is named without one. */
function withSource(body: GenerateBody, adapter_source: string): GenerateBody {
  const { parameters } = body
  const { adapter_id, merged_adapters } = parameters
  return parameters.adapter_source || !(adapter_id || merged_adapters)
    ? body
    : { ...body, parameters: { ...parameters, adapter_source } }
}

async function answerWhole(deps: GenerateDeps, generation: Measured, mode: GenerateMode): Promise<PlainAnswer> {
  const { body, exchange, meter } = generation
  const run = startRun(deps, generation, 'whole')
  const others = Array.from({ length: (body.parameters.best_of ?? 1) - 1 }, () =>
    beginRun(deps, exchange, withFreshSeed(run.request, deps.drawSeed)),
  )
  const [best, ...rest] = byLikelihood(await collectRuns([run.events, ...others], exchange))
  if (best === undefined) throw new ServingError('internal', 'a request without a run')
  exchange.close()
  meter.succeeded(run.validationMs)
  const { done, digest } = best
  const answer = toLoraxAnswer(body, best, rest)
  const totalMs = deps.clock.nowMs() - exchange.arrivedAtMs
  return {
    body: await jsonBody(mode === 'compat' ? [answer] : answer, listedTokens(body, [best, ...rest])),
    headers: {
      'content-type': 'application/json',
      ...commonHeaders(body, headerContext(generation, run, digest)),
      ...timingHeaders(done, { validationMs: run.validationMs, totalMs }),
    },
  }
}

/** From here on the status is 200, whatever happens: errors are events. */
async function answerStream(deps: GenerateDeps, generation: Measured): Promise<PlainAnswer> {
  const { body, exchange, meter } = generation
  const digestKnown = Promise.withResolvers<string | undefined>()
  const run = tryToStart(deps, generation)
  const frame = (event: object) => frameOf(JSON.stringify(event))
  async function* frames(): AsyncGenerator<string> {
    try {
      if (run instanceof ServingError) throw run
      let last: TokenEvent | undefined
      for await (const events of run.events) {
        let text = ''
        for (const event of events) {
          if (event.type === 'accepted') digestKnown.resolve(event.adapterDigest)
          else if (event.type === 'token' && event.last) last = event
          else if (event.type === 'token') text += frame(toLoraxEvent(body, event))
          else if (event.type === 'done') text += frame(toLoraxEvent(body, requireLast(last), event))
        }
        if (text !== '') yield text
      }
      meter.succeeded(run.validationMs)
    } catch (error) {
      meter.failed(error)
      logFailure(deps.log, error, exchange.requestId)
      yield frame(toLoraxError(toServingError(error)).body)
    } finally {
      // Nobody reads on: whoever left, the answer was not given in full.
      meter.failed(new ServingError('client_closed', 'the client closed the connection'))
      digestKnown.resolve(undefined)
      exchange.close()
    }
  }
  const stream = clientStream(frames(), deps, exchange)
  if (run instanceof ServingError) return { body: stream, headers: { ...streamHeaders, 'x-request-id': exchange.requestId } }
  const { kind } = run.request.adapter
  // Which worker it is is known at once, unless there is none at the moment.
  await within(deps.clock, DIGEST_PATIENCE_MS, exchange.whenPlaced)
  const digest =
    kind !== 'base' && kind !== 'registered' ? await within(deps.clock, DIGEST_PATIENCE_MS, digestKnown.promise) : undefined
  return { body: stream, headers: { ...streamHeaders, ...commonHeaders(body, headerContext(generation, run, digest)) } }
}

/** How many tokens an answer lists, and how many are listed beside each. */
function listedTokens({ parameters }: GenerateBody, runs: readonly CollectedRun[]): number {
  if (parameters.details !== true) return 0
  const tokens = runs.reduce((sum, run) => sum + run.tokens.length + run.prefill.length, 0)
  return tokens * (1 + (parameters.top_n_tokens ?? 0) + (parameters.return_k_alternatives ?? 0))
}

function tryToStart(deps: GenerateDeps, generation: Generation): Run | ServingError {
  try {
    return startRun(deps, generation, 'stream')
  } catch (error) {
    return toServingError(error)
  }
}

function requireLast(token: TokenEvent | undefined): TokenEvent {
  if (token !== undefined) return token
  throw new ServingError('worker_lost', 'the worker ended the run without a last token')
}
