/** `POST /tokenize` and `GET /startup`. */
import { limits, ServingError, toServingError } from '@quiver/protocol'
import { z } from 'zod'
import { errorResponse, logFailure } from './error-response.ts'
import { type Exchange, type NodeExchange, openExchange } from './exchange.ts'
import { jsonBody, longList } from './json-answer.ts'
import { readJsonBody } from './json-body.ts'
import { toLoraxError } from './lorax-envelope.ts'
import { beginRun, collectRuns } from './run-fan-out.ts'
import { toRunRequest } from './run-request.ts'
import type { GenerateDeps } from './start-run.ts'

export const tokenizeSchema = z.object(
  {
    inputs: z.string({ error: 'must be a string' }).describe('The text.'),
    add_special_tokens: z
      .boolean({ error: 'must be true or false' })
      .nullish()
      .describe('Whether to add what a prompt begins with; true without it.'),
  },
  { error: 'the body must be a JSON object' },
)

/** The tokens of a text with their places in it, counted in characters; takes a place among the concurrent requests. Never rejects. */
export async function answerTokenize(deps: GenerateDeps, node: NodeExchange): Promise<Response> {
  return await answering(deps, node, errorResponse, async (exchange) => {
    const parsed = tokenizeSchema.safeParse((await readJsonBody(node.incoming, limits.requestBodyBytes)).value)
    if (!parsed.success) {
      const { path = [], message = 'is not valid' } = parsed.error.issues[0] ?? {}
      throw new ServingError('invalid_parameters', path.length === 0 ? message : `\`${path.join('.')}\` ${message}`)
    }
    const { inputs, add_special_tokens: addSpecial } = parsed.data
    if (deps.workers.info === undefined)
      throw new ServingError('not_ready', 'The model is still being loaded: try again in a moment')
    const release = deps.permits.take(deps.workers.places)
    try {
      const worker = await deps.workers.acquire(exchange.signal)
      const tokens = await worker.tokenize({ text: inputs.toWellFormed(), addSpecial: addSpecial ?? true }, exchange.signal)
      const headers = { 'content-type': 'application/json', 'x-request-id': exchange.requestId }
      return new Response(await jsonBody(longList(tokens, (token) => token)), { headers })
    } finally {
      release()
    }
  })
}

/** Whether one token can really be generated. LoRAX says 500 to everything else. */
export async function answerStartup(deps: GenerateDeps, node: NodeExchange): Promise<Response> {
  const failure = (thrown: unknown, requestId: string) =>
    Response.json(toLoraxError(toServingError(thrown)).body, { status: 500, headers: { 'x-request-id': requestId } })
  return await answering(deps, node, failure, async (exchange) => {
    const context = { ...deps, requestId: exchange.requestId, seed: undefined, deadlineMs: exchange.remainingMs() }
    const run = toRunRequest({ inputs: 'Who?', parameters: { max_new_tokens: 1 }, stream: false }, context)
    await collectRuns([beginRun(deps, exchange, run)], exchange)
    return new Response(null, { status: 200, headers: { 'x-request-id': exchange.requestId } })
  })
}

async function answering(
  deps: GenerateDeps,
  node: NodeExchange,
  failure: typeof errorResponse,
  answer: (exchange: Exchange) => Promise<Response>,
): Promise<Response> {
  const { clock, newId, shutdown, times } = deps
  const exchange = openExchange(node, { clock, newId, shutdown, deadlineMs: times.deadlineMs })
  try {
    return await answer(exchange)
  } catch (error) {
    logFailure(deps.log, error, exchange.requestId)
    return failure(error, exchange.requestId)
  } finally {
    exchange.close()
  }
}
