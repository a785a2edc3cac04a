/**
 * Answers of the routes that generate, written straight to Node's response: a `Response` and its `Headers` cost more than all else that is
 * done for a short answer, and a web stream more than the tokens that go through it.
 */
import type { ServerResponse } from 'node:http'
import { pipeline } from 'node:stream/promises'

export interface PlainAnswer {
  readonly headers: Readonly<Record<string, string>>
  /** What is long is made as its reader takes it; a function writes by itself and ends the response. */
  readonly body: string | ReadableStream<Uint8Array> | ((outgoing: ServerResponse) => void)
}

/** What any page may read; the routes that are written here answer nobody by who they are in a browser. */
const everywhere = { 'access-control-allow-origin': '*' }

/** Errors come as a `Response`, like those of all other routes. Resolves when the answer is written or its reader is gone. */
export async function writeAnswer(answer: PlainAnswer | Response, outgoing: ServerResponse): Promise<void> {
  if (answer instanceof Response) {
    const text = await answer.text()
    const headers = { ...Object.fromEntries(answer.headers), ...everywhere, 'content-length': String(Buffer.byteLength(text)) }
    outgoing.writeHead(answer.status, headers).end(text)
    return
  }
  const { headers, body } = answer
  if (typeof body === 'string') {
    outgoing.writeHead(200, { ...headers, ...everywhere, 'content-length': String(Buffer.byteLength(body)) }).end(body)
    return
  }
  outgoing.writeHead(200, { ...headers, ...everywhere })
  if (typeof body === 'function') body(outgoing)
  // A reader that leaves is no failure of ours.
  else await pipeline(body, outgoing).catch(() => {})
}
