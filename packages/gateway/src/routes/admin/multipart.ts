/**
 * multipart/form-data (RFC 7578, RFC 2046) as it arrives, strictly: no text before the first part, no nesting, no encodings, every part
 * named. Nothing is kept but what may be the beginning of a boundary, and the headers of one part.
 */
import { ServingError } from '@quiver/protocol'

export interface PartHeader {
  readonly name: string
  /** Undefined for a plain field. Never a path: it is only compared. */
  readonly filename: string | undefined
}

/** What parts are handed to; what either throws ends the parsing. */
export interface PartSink {
  /** @returns takes the bytes of this part */
  part(header: PartHeader): (bytes: Uint8Array) => void
}

const MAX_HEADER_BYTES = 4 * 1024
const MAX_PARTS = 32
/** After the last boundary comes at most an end of line. */
const MAX_EPILOGUE_BYTES = 2
const CRLF = Buffer.from('\r\n')
const HEADERS_END = Buffer.from('\r\n\r\n')
/** RFC 2046 5.1.1. */
const BOUNDARY = /^[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]$/

/**
 * @param contentType the request's own
 * @throws ServingError `unsupported_media_type` for another type, `invalid_request` without a usable boundary
 */
export function multipartBoundary(contentType: string | undefined): string {
  const [type = '', ...parameters] = (contentType ?? '').split(';')
  if (type.trim().toLowerCase() !== 'multipart/form-data') {
    throw new ServingError('unsupported_media_type', 'Expected request with `Content-Type: multipart/form-data`')
  }
  const values = parameters.flatMap((part) => {
    const [, plain, inQuotes] = /^\s*boundary=(?:([^\s"]+)|"([^"]+)")\s*$/i.exec(part) ?? []
    return plain ?? inQuotes ?? []
  })
  const [boundary = ''] = values
  if (values.length === 1 && BOUNDARY.test(boundary)) return boundary
  throw new ServingError('invalid_request', 'The `Content-Type` of the request has no usable `boundary`')
}

/** @throws ServingError `invalid_request` for a body that is not well formed, and what the source and the sink throw */
export async function readMultipart(chunks: AsyncIterable<Buffer>, boundary: string, sink: PartSink): Promise<void> {
  const parser = new MultipartParser(boundary, sink)
  for await (const chunk of chunks) parser.push(chunk)
  parser.end()
}

type State =
  | { readonly in: 'start' }
  | { readonly in: 'delimiter' }
  | { readonly in: 'headers' }
  | { readonly in: 'body'; readonly take: (bytes: Uint8Array) => void }
  | { readonly in: 'epilogue' }

class MultipartParser {
  readonly #delimiter: Buffer
  readonly #sink: PartSink
  #state: State = { in: 'start' }
  #held: Buffer = Buffer.alloc(0)
  #parts = 0

  constructor(boundary: string, sink: PartSink) {
    this.#delimiter = Buffer.from(`\r\n--${boundary}`)
    this.#sink = sink
  }

  push(chunk: Buffer): void {
    this.#held = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk])
    while (this.#step());
    // A copy of the little that is left, so that the chunk itself is not kept.
    this.#held = Buffer.from(this.#held)
  }

  end(): void {
    if (this.#state.in !== 'epilogue') throw broken('it ends before its last boundary')
  }

  /** @returns whether there may be more to do with what is held */
  #step(): boolean {
    switch (this.#state.in) {
      case 'start':
        return this.#start()
      case 'delimiter':
        return this.#afterDelimiter()
      case 'headers':
        return this.#headers()
      case 'body':
        return this.#body(this.#state.take)
      case 'epilogue':
        if (this.#held.length > MAX_EPILOGUE_BYTES) throw broken('something follows its last boundary')
        return false
    }
  }

  /** The first boundary begins the body, without the end of line that begins the others. */
  #start(): boolean {
    const first = this.#delimiter.subarray(CRLF.length)
    if (this.#held.length < first.length) return false
    if (!this.#held.subarray(0, first.length).equals(first)) throw broken('it does not begin with its boundary')
    this.#drop(first.length)
    this.#state = { in: 'delimiter' }
    return true
  }

  #afterDelimiter(): boolean {
    if (this.#held.length < CRLF.length) return false
    const mark = this.#held.toString('latin1', 0, CRLF.length)
    if (mark !== '--' && mark !== '\r\n') throw broken('a boundary is followed by something else')
    this.#drop(CRLF.length)
    this.#state = { in: mark === '--' ? 'epilogue' : 'headers' }
    return true
  }

  #headers(): boolean {
    const end = this.#held.indexOf(HEADERS_END)
    if (end === -1 ? this.#held.length > MAX_HEADER_BYTES : end > MAX_HEADER_BYTES) throw broken('a part has too long headers')
    if (end === -1) return false
    if (++this.#parts > MAX_PARTS) throw broken(`it has more than ${MAX_PARTS} parts`)
    const take = this.#sink.part(readHeaders(this.#held.toString('utf8', 0, end)))
    this.#drop(end + HEADERS_END.length)
    this.#state = { in: 'body', take }
    return true
  }

  #body(take: (bytes: Uint8Array) => void): boolean {
    const at = this.#held.indexOf(this.#delimiter)
    if (at !== -1) {
      take(this.#held.subarray(0, at))
      this.#drop(at + this.#delimiter.length)
      this.#state = { in: 'delimiter' }
      return true
    }
    const sure = Math.max(0, this.#held.length - this.#delimiter.length + 1)
    if (sure > 0) take(this.#held.subarray(0, sure))
    this.#drop(sure)
    return false
  }

  #drop(bytes: number): void {
    this.#held = this.#held.subarray(bytes)
  }
}

function readHeaders(text: string): PartHeader {
  const headers = new Map<string, string>()
  for (const line of text.split('\r\n')) {
    const [, name, value] = /^([A-Za-z-]+):[ \t]*(.*?)[ \t]*$/.exec(line) ?? []
    if (name === undefined || value === undefined || headers.has(name.toLowerCase()))
      throw broken('a header of a part cannot be read')
    headers.set(name.toLowerCase(), value)
  }
  const encoding = headers.get('content-transfer-encoding')?.toLowerCase()
  if (encoding !== undefined && !['binary', '8bit', '7bit'].includes(encoding))
    throw broken(`a part is encoded as ${encoding.slice(0, 40)}`)
  const disposition = /^form-data((?:;[ \t]*[a-z]+="[^"\r\n]*")+)$/i.exec(headers.get('content-disposition') ?? '')?.[1]
  if (disposition === undefined) throw broken('a part has no `Content-Disposition: form-data` with a name')
  const pairs = [...disposition.matchAll(/;[ \t]*([a-z]+)="([^"]*)"/gi)].map(([, key = '', value = '']) => [
    key.toLowerCase(),
    value,
  ])
  const values = new Map(pairs.map(([key = '', value = '']) => [key, value]))
  const name = values.get('name')
  if (name === undefined || values.size !== pairs.length) throw broken('a part has no name, or two')
  return { name, filename: values.get('filename') }
}

function broken(why: string): ServingError {
  return new ServingError('invalid_request', `The body is not multipart/form-data: ${why}`)
}
