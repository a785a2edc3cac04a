import { type RunEvent, runEventSchema, runEventTypes, ServingError, type TokenEvent } from '@quiver/protocol'

const NEWLINE = 0x0a

/** Fields of a token of which nothing more is told. */
const TOKEN_FIELDS = 6

/**
 * Cuts a worker's byte stream into events: those that came in one piece together, since what is done for each piece costs more than
 * what is done for each event. Lines are cut as bytes and decoded whole, so a character is never split.
 * @throws ServingError `worker_lost` for a line that is too long, not JSON, not an event, or not ended
 */
export async function* parseRunEvents(
  chunks: AsyncIterable<Uint8Array>,
  maxLineBytes: number,
): AsyncGenerator<readonly RunEvent[]> {
  for await (const lines of readPieces(chunks, maxLineBytes)) {
    const events: RunEvent[] = []
    for (const line of lines) {
      const event = parseLine(line, runEvent)
      if (event !== undefined) events.push(event)
    }
    yield events
  }
}

/** The lines of a stream, without their ends. @throws ServingError `worker_lost` for a line that is too long or not ended */
export async function* readLines(chunks: AsyncIterable<Uint8Array>, maxLineBytes: number): AsyncGenerator<string> {
  for await (const lines of readPieces(chunks, maxLineBytes)) yield* lines
}

/** The lines that each piece of a stream completes; none at all are left out. */
async function* readPieces(chunks: AsyncIterable<Uint8Array>, maxLineBytes: number): AsyncGenerator<readonly string[]> {
  let rest: Uint8Array[] = []
  let restBytes = 0
  for await (const chunk of chunks) {
    const last = chunk.lastIndexOf(NEWLINE)
    if (last === -1) {
      rest.push(chunk)
      restBytes += chunk.length
    } else {
      const whole = chunk.subarray(0, last)
      const lines = textOf(rest.length === 0 ? whole : Buffer.concat([...rest, whole])).split('\n')
      rest = last + 1 === chunk.length ? [] : [chunk.subarray(last + 1)]
      restBytes = chunk.length - last - 1
      yield lines
    }
    if (restBytes > maxLineBytes) throw new ServingError('worker_lost', 'the worker sent a line that is too long')
  }
  if (restBytes > 0) throw new ServingError('worker_lost', 'the worker stopped in the middle of an event')
}

function textOf({ buffer, byteOffset, length }: Uint8Array): string {
  return Buffer.from(buffer, byteOffset, length).toString('utf8')
}

/**
 * A plain token, which nearly every event is, is looked at without the schema: that costs ten times as much.
 * @returns undefined for a kind of event that is not known here: what a newer worker says beside the rest
 */
function runEvent(value: unknown): RunEvent | undefined {
  if (isPlainToken(value)) return value
  return isStrange(value) ? undefined : runEventSchema.parse(value)
}

function isStrange(value: unknown): boolean {
  const type = typeof value === 'object' && value !== null && 'type' in value ? value.type : undefined
  return typeof type === 'string' && !runEventTypes.has(type)
}

function isPlainToken(value: unknown): value is TokenEvent {
  const token = value as Partial<TokenEvent> | null
  return (
    token?.type === 'token' &&
    Number.isSafeInteger(token.id) &&
    Number(token.id) >= 0 &&
    typeof token.text === 'string' &&
    Number.isFinite(token.logprob) &&
    typeof token.special === 'boolean' &&
    typeof token.last === 'boolean' &&
    Object.keys(token).length === TOKEN_FIELDS
  )
}

/** @throws ServingError `worker_lost` for what is not JSON or what `parse` does not take */
export function parseLine<T>(line: string, parse: (value: unknown) => T): T {
  try {
    return parse(JSON.parse(line))
  } catch (cause) {
    throw new ServingError('worker_lost', 'the worker sent something that is not an event', {}, { cause })
  }
}
