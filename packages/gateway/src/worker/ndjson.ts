import { type RunEvent, runEventSchema, ServingError } from '@quiver/protocol'

const NEWLINE = 0x0a

/**
 * Cuts a worker's byte stream into events. Lines are cut as bytes and decoded whole, so a character is never split.
 * @throws ServingError `worker_lost` for a line that is too long, not JSON, not an event, or not ended
 */
export async function* parseRunEvents(chunks: AsyncIterable<Uint8Array>, maxLineBytes: number): AsyncGenerator<RunEvent> {
  for await (const line of readLines(chunks, maxLineBytes)) yield parseLine(line, (value) => runEventSchema.parse(value))
}

/** The lines of a stream, without their ends. @throws ServingError `worker_lost` for a line that is too long or not ended */
export async function* readLines(chunks: AsyncIterable<Uint8Array>, maxLineBytes: number): AsyncGenerator<string> {
  let rest: Uint8Array[] = []
  let restBytes = 0
  for await (const chunk of chunks) {
    let start = 0
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      const line = [...rest, chunk.subarray(start, end)]
      rest = []
      restBytes = 0
      start = end + 1
      yield Buffer.concat(line).toString('utf8')
    }
    if (start < chunk.length) {
      rest.push(chunk.subarray(start))
      restBytes += chunk.length - start
    }
    if (restBytes > maxLineBytes) throw new ServingError('worker_lost', 'the worker sent a line that is too long')
  }
  if (restBytes > 0) throw new ServingError('worker_lost', 'the worker stopped in the middle of an event')
}

/** @throws ServingError `worker_lost` for what is not JSON or what `parse` does not take */
export function parseLine<T>(line: string, parse: (value: unknown) => T): T {
  try {
    return parse(JSON.parse(line))
  } catch (cause) {
    throw new ServingError('worker_lost', 'the worker sent something that is not an event', {}, { cause })
  }
}
