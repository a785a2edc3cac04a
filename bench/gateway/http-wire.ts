/**
 * As much of HTTP/1.1 as two programs need that talk to known partners and must cost next to nothing: what is measured stands
 * between them, on cores that all three may share.
 */

const HEAD_END = Buffer.from('\r\n\r\n')

/** One message as far as its kind can be told without reading the body. */
export interface MessageHead {
  /** The first line: of a request or of an answer. */
  readonly line: string
  /** Header names in lower case. */
  readonly head: string
  /** Undefined: in chunks. */
  readonly bodyBytes: number | undefined
}

/** What comes of a connection. Of a body in chunks `body` gets their frames too: who counts in it does not care. */
export interface MessageReader {
  head(head: MessageHead): void
  body(bytes: Buffer): void
  end(): void
}

/** Cuts a connection's bytes into messages, one after another. */
export class MessageCutter {
  readonly #reader: MessageReader
  #rest: Buffer = Buffer.alloc(0)
  /** Of the body that is being read: bytes to come, or in chunks. */
  #state: { readonly kind: 'head' } | { readonly kind: 'sized'; left: number } | { readonly kind: 'chunks'; tail: string } = {
    kind: 'head',
  }

  constructor(reader: MessageReader) {
    this.#reader = reader
  }

  push(bytes: Buffer): void {
    let left = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes])
    this.#rest = Buffer.alloc(0)
    while (left.length > 0) {
      const taken = this.#take(left)
      if (taken === 0) {
        this.#rest = left
        return
      }
      left = left.subarray(taken)
    }
  }

  /** @returns bytes that were understood; 0: more are needed */
  #take(bytes: Buffer): number {
    const state = this.#state
    if (state.kind === 'head') return this.#takeHead(bytes)
    if (state.kind === 'sized') {
      const taken = Math.min(state.left, bytes.length)
      state.left -= taken
      this.#reader.body(bytes.subarray(0, taken))
      if (state.left === 0) this.#end()
      return taken
    }
    // Our partners send nothing behind a body before the next request, so the last chunk ends what has come.
    this.#reader.body(bytes)
    state.tail = (state.tail + bytes.toString('latin1', Math.max(0, bytes.length - 7))).slice(-7)
    if (state.tail.endsWith('\r\n0\r\n\r\n') || state.tail === '0\r\n\r\n') this.#end()
    return bytes.length
  }

  #takeHead(bytes: Buffer): number {
    const end = bytes.indexOf(HEAD_END)
    if (end === -1) return 0
    const text = bytes.toString('latin1', 0, end)
    const lineEnd = text.indexOf('\r\n')
    const head = text.slice(lineEnd + 2).toLowerCase()
    const length = /(?:^|\n)content-length: *(\d+)/.exec(head)?.[1]
    const bodyBytes = head.includes('transfer-encoding: chunked') ? undefined : Number(length ?? 0)
    this.#reader.head({ line: lineEnd === -1 ? text : text.slice(0, lineEnd), head, bodyBytes })
    if (bodyBytes === 0) this.#end()
    else this.#state = bodyBytes === undefined ? { kind: 'chunks', tail: '' } : { kind: 'sized', left: bodyBytes }
    return end + HEAD_END.length
  }

  #end(): void {
    this.#state = { kind: 'head' }
    this.#reader.end()
  }
}

/** A whole answer. */
export function wholeAnswer(body: string, type = 'application/json'): string {
  return `HTTP/1.1 200 OK\r\ncontent-type: ${type}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
}

/** The head of an answer in chunks. */
export function chunkedHead(type: string): string {
  return `HTTP/1.1 200 OK\r\ncontent-type: ${type}\r\ntransfer-encoding: chunked\r\n\r\n`
}

export function chunkOf(text: string): string {
  return `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`
}

export const LAST_CHUNK = '0\r\n\r\n'

/** A request with a body, kept alive. */
export function postOf(path: string, host: string, body: string, headers: Readonly<Record<string, string>> = {}): Buffer {
  const more = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  const length = Buffer.byteLength(body)
  return Buffer.from(
    `POST ${path} HTTP/1.1\r\nhost: ${host}\r\ncontent-type: application/json\r\ncontent-length: ${length}\r\n${more.join('')}\r\n${body}`,
  )
}
