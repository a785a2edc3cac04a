import { connect, createServer, type Server, type Socket } from 'node:net'

/** Something between a client and a real Redis that can answer every command, or every write, with an error of Redis's. */
export class RefusingRedis {
  /** `LOADING …` for every command, `MISCONF …` for writes; undefined: everything goes on to Redis. */
  refusal: { readonly text: string; readonly writesOnly?: boolean } | undefined
  /** Answers that were refusals. */
  refused = 0
  readonly #sockets = new Set<Socket>()
  readonly #server: Server
  #port = 0

  private constructor(port: number) {
    this.#server = createServer((socket) => {
      const onward = connect({ host: '127.0.0.1', port })
      for (const one of [socket, onward]) {
        this.#sockets.add(one)
        one.on('error', () => {})
        one.once('close', () => {
          socket.destroy()
          onward.destroy()
          this.#sockets.delete(one)
        })
      }
      onward.pipe(socket)
      socket.on('data', (bytes) => this.#pass(bytes, socket, onward))
    })
  }

  /** @param port of a real one on this machine */
  static async before(port: number): Promise<RefusingRedis> {
    const made = new RefusingRedis(port)
    await new Promise<void>((resolve) => made.#server.listen(0, '127.0.0.1', resolve))
    const address = made.#server.address()
    if (address === null || typeof address === 'string') throw new Error('a listening server has a port')
    made.#port = address.port
    return made
  }

  get url(): string {
    return `redis://127.0.0.1:${this.#port}`
  }

  /** Ends every connection, as a server does that is started again. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  close(): void {
    this.#server.close()
    this.cut()
  }

  /** Commands of a piece are refused or go on together; pieces end with a command, as the client writes them. */
  #pass(bytes: Buffer, socket: Socket, onward: Socket): void {
    const text = bytes.toString('latin1')
    const isRefused = this.refusal !== undefined && (this.refusal.writesOnly !== true || /\r\nset\r\n/i.test(text))
    if (!isRefused) {
      onward.write(bytes)
      return
    }
    const commands = text.match(/(?:^|\r\n)\*\d+\r\n/g)?.length ?? 0
    this.refused += commands
    socket.write(`-${this.refusal?.text ?? ''}\r\n`.repeat(commands))
  }
}
