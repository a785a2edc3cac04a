/** What a worker says of its adapters, and the orders it takes. */
import {
  type AdapterOrder,
  type AdapterOrderKind,
  type AdapterPresences,
  adapterPresencesSchema,
  errorCodeSchema,
  ServingError,
} from '@quiver/protocol'
import { type Dispatcher, request } from 'undici'
import { z } from 'zod'

const refusalSchema = z.object({ error: z.string(), code: errorCodeSchema })
/** A report is made between two steps of the engine. */
const REPORT_PATIENCE_MS = 10_000

interface Connection {
  readonly headers: Record<string, string>
  readonly dispatcher: Dispatcher
  readonly signal: AbortSignal
}

/** @throws ServingError what the worker refuses it with; `worker_lost` when it does not answer as a worker does. Other failures are of the connection */
export async function presencesAt(url: string, digest: string | undefined, connection: Connection): Promise<AdapterPresences> {
  const address = new URL('/v1/adapters', url)
  if (digest !== undefined) address.searchParams.set('digest', digest)
  const patience = { headersTimeout: REPORT_PATIENCE_MS, bodyTimeout: REPORT_PATIENCE_MS }
  return await readPresences(await request(address, { ...connection, ...patience }))
}

/** Waits as long as the worker does: how long a load may take is the signal's matter. @throws as `presencesAt` */
export async function orderAt(
  url: string,
  kind: AdapterOrderKind,
  order: AdapterOrder,
  connection: Connection,
): Promise<AdapterPresences> {
  const response = await request(new URL(`/v1/adapters/${kind}`, url), {
    ...connection,
    method: 'POST',
    headers: { ...connection.headers, 'content-type': 'application/json' },
    body: JSON.stringify(order),
    headersTimeout: 0,
    bodyTimeout: REPORT_PATIENCE_MS,
  })
  return await readPresences(response)
}

async function readPresences({ statusCode, body }: Dispatcher.ResponseData): Promise<AdapterPresences> {
  const answer: unknown = await body.json().catch(() => undefined)
  if (statusCode === 200) {
    const parsed = adapterPresencesSchema.safeParse(answer)
    if (parsed.success) return parsed.data
  }
  const refusal = refusalSchema.safeParse(answer)
  if (refusal.success) throw new ServingError(refusal.data.code, refusal.data.error)
  throw new ServingError('worker_lost', 'the worker did not answer about its adapters', { workerStatus: statusCode })
}
