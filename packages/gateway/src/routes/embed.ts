/** `POST /embed`, and `/classify` and `/classify_batch`, which a model that generates cannot answer. */
import { limits, ServingError } from '@quiver/protocol'
import { z } from 'zod'
import { withBearerToken } from './adapter-source.ts'
import { errorResponse, logFailure } from './error-response.ts'
import { type NodeExchange, openExchange } from './exchange.ts'
import { parameterChecks, runChecks } from './generate-checks.ts'
import { generateBodySchema, parametersSchema, parseGenerateBody } from './generate-schema.ts'
import { headerContext } from './header-context.ts'
import { readJsonBody } from './json-body.ts'
import { commonHeaders, timingHeaders } from './lorax-answer.ts'
import { collectEmbeddings, numbersOf } from './openai/embedding-runs.ts'
import { toRunRequest } from './run-request.ts'
import { servedModel } from './served-model.ts'
import type { GenerateDeps } from './start-run.ts'

const { inputs } = generateBodySchema.shape
const { adapter_id, adapter_source, merged_adapters, api_token } = parametersSchema.shape
export const embedSchema = z.object(
  {
    inputs: inputs.describe('The text.'),
    parameters: z
      .object({ adapter_id, adapter_source, merged_adapters, api_token }, { error: 'must be an object' })
      .nullish()
      .describe('Which adapter to apply.'),
  },
  { error: 'the body must be a JSON object' },
)

const fieldsChecked: ReadonlySet<string> = new Set(['merged_adapters', 'adapter_id', 'api_token', 'inputs'])
const embedChecks = parameterChecks.filter(({ field }) => fieldsChecked.has(field))

/** The same numbers as `/v1/embeddings` gives for one text. Never rejects: every failure is an answer. */
export async function answerEmbed(deps: GenerateDeps, node: NodeExchange): Promise<Response> {
  const { clock, newId, shutdown, times } = deps
  const exchange = openExchange(node, { clock, newId, shutdown, deadlineMs: times.deadlineMs })
  const meter = deps.metrics.begin()
  try {
    const given = parseGenerateBody((await readJsonBody(node.incoming, limits.requestBodyBytes)).value)
    const parameters = withBearerToken(
      embedSchema.shape.parameters.parse(given.parameters) ?? {},
      node.incoming.headers.authorization,
    )
    const info = servedModel(deps.workers, { parameters, catalogue: deps.catalogue })
    const body = { inputs: given.inputs, parameters, stream: false }
    runChecks(embedChecks, body, { inputTokens: info.limits.inputTokens, ...deps.clientLimits })
    const { requestId } = exchange
    const context = { ...deps, requestId, seed: undefined, deadlineMs: exchange.remainingMs(), base: info.model.id }
    const run = { ...toRunRequest(body, context), goal: 'embedding' as const }
    const validationMs = clock.nowMs() - exchange.arrivedAtMs
    const [embedded] = await collectEmbeddings(deps, exchange, [run], 'inputs')
    if (embedded === undefined) throw new ServingError('internal', 'a request without a run')
    meter.succeeded(validationMs)
    const { values, done, digest } = embedded
    const totalMs = clock.nowMs() - exchange.arrivedAtMs
    return Response.json(
      { embeddings: numbersOf(values) },
      {
        headers: {
          ...commonHeaders(body, headerContext({ body, exchange }, { request: run, info }, digest)),
          ...timingHeaders(done, { validationMs, totalMs }),
        },
      },
    )
  } catch (error) {
    meter.failed(error)
    logFailure(deps.log, error, exchange.requestId)
    return errorResponse(error, exchange.requestId)
  } finally {
    exchange.close()
  }
}
