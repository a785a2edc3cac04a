/** Passes HTTP on as it comes, the `host` header too, so that signatures stay right, and counts what is read. */
import { createServer, type IncomingMessage, type ServerResponse, request as startRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pipeline } from 'node:stream/promises'
import type { CleanUp } from '../shared/clean-up.ts'

export class CountingProxy {
  readonly #target: URL
  readonly #gets = new Map<string, number>()
  readonly #server = createServer((request, response) => void this.#pass(request, response))

  private constructor(target: string) {
    this.#target = new URL(target)
  }

  /** @param target `http://host:port` */
  static async start(target: string, cleanUp: CleanUp): Promise<CountingProxy> {
    const proxy = new CountingProxy(target)
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve))
    cleanUp.add({ undo: async () => proxy.#close(), undoNow: () => proxy.#close() })
    return proxy
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** GET requests, whole or of a part, of paths that end like this. */
  gets(ending: string): number {
    return [...this.#gets].reduce((sum, [path, count]) => (path.endsWith(ending) ? sum + count : sum), 0)
  }

  #close(): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }

  async #pass(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method, url = '', headers } = incoming
    const [path = ''] = url.split('?')
    if (method === 'GET') this.#gets.set(path, (this.#gets.get(path) ?? 0) + 1)
    const { hostname, port } = this.#target
    const onward = startRequest({ hostname, port, path: url, method, headers })
    try {
      const answered = new Promise<IncomingMessage>((resolve, reject) => onward.once('response', resolve).once('error', reject))
      const [answer] = await Promise.all([answered, pipeline(incoming, onward)])
      response.writeHead(answer.statusCode ?? 502, answer.rawHeaders)
      await pipeline(answer, response)
    } catch {
      // One side has gone: so does the other.
      onward.destroy()
      response.destroy()
    }
  }
}
