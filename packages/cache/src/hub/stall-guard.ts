import { ServingError } from '@quiver/protocol'
import { reasonOf } from './hub-client.ts'
import type { RetryDeps } from './retries.ts'
import { stopped } from './sleep.ts'

/**
 * The chunks of a stream, each within `stallMs` of the one before.
 * @throws ServingError `source_unavailable` when the stream breaks or stalls, `client_closed` when `signal` is aborted
 */
export async function* readWithin(
  stream: ReadableStream<Uint8Array>,
  stallMs: number,
  deps: RetryDeps,
): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader()
  try {
    for (;;) {
      const { done, value } = await readOnce(reader, stallMs, deps)
      if (done) return
      yield value
    }
  } finally {
    reader.cancel().catch(() => undefined) // Broken already, or read to its end.
  }
}

function readOnce(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  stallMs: number,
  { timers, signal }: RetryDeps,
): Promise<Awaited<ReturnType<ReadableStreamDefaultReader<Uint8Array>['read']>>> {
  return new Promise((resolve, reject) => {
    const settle = (finish: () => void) => {
      cancel()
      signal.removeEventListener('abort', onAbort)
      finish()
    }
    const onAbort = () => settle(() => reject(stopped()))
    const cancel = timers.after(stallMs, () =>
      settle(() => reject(new ServingError('source_unavailable', `nothing came for ${stallMs / 1000} s`))),
    )
    signal.addEventListener('abort', onAbort, { once: true })
    // Aborted while the chunk before was written: the event is over and would not come again.
    if (signal.aborted) return onAbort()
    reader.read().then(
      (result) => settle(() => resolve(result)),
      (error: unknown) => settle(() => reject(new ServingError('source_unavailable', reasonOf(error), {}, { cause: error }))),
    )
  })
}
