import { errorCodeSchema, ServingError, type TextToken, type TokenizeRequest, tokenizeAnswerSchema } from '@quiver/protocol'
import { type Dispatcher, request } from 'undici'
import { z } from 'zod'

const refusalSchema = z.object({ error: z.string(), code: errorCodeSchema })
/** A long text is tokenised between two steps of the engine. */
const PATIENCE_MS = 30_000

/**
 * Asks a worker for the tokens of a text.
 * @throws ServingError what the worker refuses it with; `worker_lost` when it does not answer as a worker does. Other failures are of the connection
 */
export async function tokenizeAt(
  url: string,
  body: TokenizeRequest,
  options: { readonly headers: Record<string, string>; readonly dispatcher: Dispatcher; readonly signal: AbortSignal },
): Promise<readonly TextToken[]> {
  const response = await request(new URL('/v1/tokenize', url), {
    ...options,
    method: 'POST',
    headers: { ...options.headers, 'content-type': 'application/json' },
    body: JSON.stringify(body),
    headersTimeout: PATIENCE_MS,
    bodyTimeout: PATIENCE_MS,
  })
  const answer = await response.body.json()
  if (response.statusCode === 200) {
    const parsed = tokenizeAnswerSchema.safeParse(answer)
    if (parsed.success) return parsed.data.tokens
  }
  const refusal = refusalSchema.safeParse(answer)
  if (refusal.success) throw new ServingError(refusal.data.code, refusal.data.error)
  throw new ServingError('worker_lost', 'the worker did not answer with tokens', { workerStatus: response.statusCode })
}
