/**
 * A proxy between a client and an HTTP server, which spoils what a test wants spoilt. It passes requests on as they came, the
 * `host` header too, so that signatures stay right; it has the server's whole answer before it gives the first byte of it.
 */
import { createServer, type IncomingMessage, type ServerResponse, request as startRequest } from 'node:http'
import type { Socket } from 'node:net'
import { onTestFinished } from 'vitest'

export interface ProxiedRequest {
  readonly method: string
  /** With the query. */
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  /** From 1, over all requests of this proxy. */
  readonly number: number
}

export interface ProxiedAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
}

/** What goes wrong with one request. */
export type Fault =
  /** The server is not asked. */
  | ({ readonly kind: 'answer' } & Partial<ProxiedAnswer>)
  /** The connection breaks: before the server is asked, after it was but before its answer, or after so many bytes of the body. */
  | { readonly kind: 'cut'; readonly at: 'request' | 'answer' | number }
  /** After so many bytes of the body, or before the answer, nothing more comes; the connection stays. */
  | { readonly kind: 'stall'; readonly at: 'answer' | number }
  /** The body comes byte by byte. */
  | { readonly kind: 'drip'; readonly everyMs: number }
  /** The answer is another one. What the body has beyond `content-length` is sent as well; where it falls short, the connection breaks. */
  | { readonly kind: 'change'; readonly change: (answer: ProxiedAnswer) => ProxiedAnswer }

export type Spoiling = (request: ProxiedRequest) => Fault | undefined | Promise<Fault | undefined>

export class FaultProxy {
  readonly requests: ProxiedRequest[] = []
  /** Decides on every request; undefined passes it on. */
  spoil: Spoiling = () => undefined
  /** While it is true, connections are refused or broken. */
  isDown = false
  /** Requests that have not been answered to their end. */
  underWay = 0
  readonly #target: URL
  readonly #server = createServer((request, response) => {
    this.underWay += 1
    this.#serve(request, response)
      .catch(() => response.destroy())
      // Before the client can have read the answer: its next request finds the place free.
      .finally(() => {
        this.underWay -= 1
      })
  })
  readonly #sockets = new Set<Socket>()
  #port = 0

  private constructor(target: string) {
    this.#target = new URL(target)
    this.#server.on('connection', (socket) => {
      if (this.isDown) socket.destroy()
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
    })
  }

  /** @param target `http://host:port`. The proxy ends with the test. */
  static async start(target: string): Promise<FaultProxy> {
    const proxy = new FaultProxy(target)
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve))
    const address = proxy.#server.address()
    if (address === null || typeof address === 'string') throw new Error('a listening server has a port')
    proxy.#port = address.port
    onTestFinished(() => {
      proxy.#server.close()
      for (const socket of proxy.#sockets) socket.destroy()
    })
    return proxy
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  /** Connections that stand now. */
  get connections(): number {
    return this.#sockets.size
  }

  /** Breaks every connection and takes no more, or takes them again. */
  setDown(isDown: boolean): void {
    this.isDown = isDown
    if (isDown) for (const socket of this.#sockets) socket.destroy()
  }

  async #serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const request = this.#note(incoming)
    const fault = await this.spoil(request)
    if (fault?.kind === 'cut' && fault.at === 'request') {
      incoming.socket.destroy()
      return
    }
    const body = Buffer.concat(await incoming.toArray())
    const answer =
      fault?.kind === 'answer' ? { status: 500, headers: {}, body: Buffer.alloc(0), ...fault } : await this.#ask(incoming, body)
    if (this.isDown) incoming.socket.destroy()
    else await give(response, answer, { fault, isHead: request.method === 'HEAD' })
  }

  #note(incoming: IncomingMessage): ProxiedRequest {
    const headers = Object.fromEntries(Object.entries(incoming.headers).map(([name, value]) => [name, String(value)]))
    const request = { method: incoming.method ?? '', path: incoming.url ?? '', headers, number: this.requests.length + 1 }
    this.requests.push(request)
    return request
  }

  #ask(incoming: IncomingMessage, body: Buffer): Promise<ProxiedAnswer> {
    const { hostname, port } = this.#target
    return new Promise((resolve, reject) => {
      const { connection: _, ...headers } = incoming.headers
      const onward = startRequest({ hostname, port, path: incoming.url, method: incoming.method, headers, agent: false })
      onward.once('error', reject)
      onward.once('response', (answer) => {
        answer.toArray().then((chunks) => {
          const given = Object.entries(answer.headers).filter(([name]) => name !== 'connection' && name !== 'transfer-encoding')
          const headers = Object.fromEntries(given.map(([name, value]) => [name, String(value)]))
          resolve({ status: answer.statusCode ?? 0, headers, body: Buffer.concat(chunks) })
        }, reject)
      })
      onward.end(body)
    })
  }
}

async function give(
  response: ServerResponse,
  answer: ProxiedAnswer,
  { fault, isHead }: { fault: Fault | undefined; isHead: boolean },
): Promise<void> {
  const { socket } = response
  const { status, headers, body } = fault?.kind === 'change' ? fault.change(answer) : answer
  if (fault?.kind === 'cut' && fault.at === 'answer') {
    socket?.destroy()
    return
  }
  if (fault?.kind === 'stall' && fault.at === 'answer') return
  // A HEAD's length is that of a body that does not come.
  response.writeHead(status, isHead ? headers : { 'content-length': body.length, ...headers })
  if (fault?.kind === 'drip') {
    await drip(response, body, fault.everyMs)
    return
  }
  const at = (fault?.kind === 'cut' || fault?.kind === 'stall') && typeof fault.at === 'number' ? fault.at : body.length
  response.flushHeaders()
  if (!isHead) await new Promise((resolve) => response.write(body.subarray(0, at), resolve))
  if (fault?.kind === 'stall') return
  if (fault?.kind === 'cut' || (fault?.kind === 'change' && !isHead)) socket?.destroySoon()
  else response.end()
}

async function drip(response: ServerResponse, body: Buffer, everyMs: number): Promise<void> {
  for (const byte of body) {
    if (response.destroyed) return
    response.write(Uint8Array.of(byte))
    await new Promise((resolve) => setTimeout(resolve, everyMs))
  }
  response.end()
}
