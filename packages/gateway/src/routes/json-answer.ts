/** Long answers, made and written in pieces, so that other requests get turns between. */
import { setImmediate as nextTurn } from 'node:timers/promises'

/** So few listed tokens are written in one go: less work than cutting them into pieces, and no turn to wait for. */
const FEW_TOKENS = 256

/** A piece is written when it has become this long, in UTF-16 units: about a millisecond of work. */
const PIECE_LENGTH = 64 * 1024

/** A list of an answer whose items are made when they are written. */
export class LongList<T> {
  readonly #items: () => Iterable<T>

  constructor(items: () => Iterable<T>) {
    this.#items = items
  }

  [Symbol.iterator](): Iterator<T> {
    return this.#items()[Symbol.iterator]()
  }

  /** For those who write it in one go. */
  toJSON(): readonly T[] {
    return [...this]
  }
}

/** A list of `of`'s items as `make` makes them. */
export function longList<S, T>(of: readonly S[], make: (item: S) => T): LongList<T> {
  return new LongList(() => mapped(of, make))
}

function* mapped<S, T>(of: readonly S[], make: (item: S) => T): Generator<T> {
  for (const item of of) yield make(item)
}

/**
 * The JSON of a value as `JSON.stringify` writes it. What is short comes as a text; of what is long the rest is made as its reader
 * takes it, a piece in each turn of the event loop.
 * @param tokens that are listed in it, as far as the caller knows that nothing else makes it long
 */
export async function jsonBody(value: unknown, tokens?: number): Promise<string | ReadableStream<Uint8Array>> {
  if (tokens !== undefined && tokens <= FEW_TOKENS) return JSON.stringify(value)
  const pieces = inPieces(jsonParts(value))
  const first = pieces.next()
  if (first.done === true) return ''
  await nextTurn()
  const second = pieces.next()
  if (second.done === true) return first.value
  const encoder = new TextEncoder()
  const ready = [first.value, second.value]
  return new ReadableStream({
    async pull(controller) {
      let piece = ready.shift()
      if (piece === undefined) {
        await nextTurn()
        piece = pieces.next().value ?? undefined
      }
      if (piece === undefined) controller.close()
      else controller.enqueue(encoder.encode(piece))
    },
  })
}

function* inPieces(parts: Iterable<string>): Generator<string, undefined> {
  let piece = ''
  for (const part of parts) {
    piece += part
    if (piece.length < PIECE_LENGTH) continue
    yield piece
    piece = ''
  }
  if (piece !== '') yield piece
}

/** Cut at every item of a list, however deep it is, and at every field of a plain object. */
function* jsonParts(value: unknown): Generator<string> {
  if (value instanceof LongList || Array.isArray(value)) {
    let before = '['
    for (const item of value) {
      yield before
      yield* value instanceof LongList ? [jsonOf(item)] : jsonParts(item)
      before = ','
    }
    yield before === '[' ? '[]' : ']'
  } else if (isPlain(value)) {
    let before = '{'
    for (const [name, field] of Object.entries(value)) {
      if (field === undefined) continue
      yield `${before}${JSON.stringify(name)}:`
      yield* jsonParts(field)
      before = ','
    }
    yield before === '{' ? '{}' : '}'
  } else yield jsonOf(value)
}

function jsonOf(value: unknown): string {
  // In a list undefined is null, as JSON.stringify has it.
  return JSON.stringify(value) ?? 'null'
}

/** Not a number that stands for its own digits (`JSON.rawJSON`), nor anything that says itself how it is written. */
function isPlain(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype && !('toJSON' in value)
}
