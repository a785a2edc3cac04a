import { type ClientRequest, type IncomingMessage, request as startRequest } from 'node:http'
import { type RunEvent, type RunRequest, runEventSchema } from '@quiver/protocol'

/** A run over a real socket. */
export interface ClientRun {
  readonly status: number
  readonly events: readonly RunEvent[]
  /** Resolves when an event of this type has come, or the stream has ended without one. */
  seen(type: RunEvent['type'], count?: number): Promise<void>
  /** Resolves when the stream has ended, well or not. */
  readonly over: Promise<'complete' | 'cut'>
  /** Closes the connection at once. */
  leave(): void
  /** Takes no more bytes. */
  stopReading(): void
  resumeReading(): void
}

/** Starts a run and resolves with the answer's head. */
export function openRun(url: string, request: RunRequest, headers: Record<string, string> = {}): Promise<ClientRun> {
  return new Promise((resolve, reject) => {
    const outgoing = startRequest(`${url}/v1/run`, {
      method: 'POST',
      agent: false,
      headers: { 'content-type': 'application/json', ...headers },
    })
    outgoing.once('error', reject)
    outgoing.once('response', (answer) => resolve(follow(outgoing, answer)))
    outgoing.end(JSON.stringify(request))
  })
}

function follow(outgoing: ClientRequest, answer: IncomingMessage): ClientRun {
  const events: RunEvent[] = []
  const over = Promise.withResolvers<'complete' | 'cut'>()
  let waiters: { type: RunEvent['type']; count: number; resolve: () => void }[] = []
  const tell = (ended: boolean) => {
    const isDue = (waiter: { type: string; count: number }) =>
      ended || events.filter(({ type }) => type === waiter.type).length >= waiter.count
    for (const waiter of waiters.filter(isDue)) waiter.resolve()
    waiters = waiters.filter((waiter) => !isDue(waiter))
  }
  let rest = ''
  answer.setEncoding('utf8')
  answer.on('data', (text: string) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? ''
    events.push(...lines.map((line) => runEventSchema.parse(JSON.parse(line))))
    tell(false)
  })
  answer.on('error', () => {})
  outgoing.on('error', () => {})
  answer.once('close', () => {
    over.resolve(answer.complete ? 'complete' : 'cut')
    tell(true)
  })
  return {
    status: answer.statusCode ?? 0,
    events,
    over: over.promise,
    seen: (type, count = 1) =>
      new Promise((resolve) => {
        waiters.push({ type, count, resolve })
        tell(answer.closed)
      }),
    leave: () => outgoing.destroy(),
    stopReading: () => answer.pause(),
    resumeReading: () => answer.resume(),
  }
}

/** One call with a JSON answer. */
export async function call(
  url: string,
  init: RequestInit = {},
): Promise<{ status: number; body: Record<string, unknown>; headers: Headers }> {
  const response = await fetch(url, init)
  return { status: response.status, body: (await response.json()) as Record<string, unknown>, headers: response.headers }
}
