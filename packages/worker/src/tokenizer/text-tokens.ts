/** Where in a text its tokens stand. */
import type { TextToken } from '@quiver/protocol'
import { SLICE_LENGTH, type Slices } from './slices.ts'
import type { TokenBytes } from './token-bytes.ts'

/** How far behind the last token the next one is looked for, in bytes: white space that a special token swallowed. */
const GAP_BYTES = 256
const SPACE = 0x20

/**
 * Places by laying the tokens' bytes along the text's. A token that holds a part of a character spans all of it, as in Rust's
 * `tokenizers`. A token without a place of its own (a space that the tokenizer put before the text) spans nothing.
 * @param ids the tokens of `text`, without those that are put around it
 */
export function* textTokens(text: string, ids: readonly number[], tokens: TokenBytes): Slices<TextToken[]> {
  const bytes = ids.map((id) => tokens.of(id))
  const asWritten = Buffer.concat(bytes).indexOf(Buffer.from(text, 'utf8')) !== -1
  const map = yield* mapOf(text, asWritten ? (characters) => characters : (characters) => characters.normalize())
  let cursor = 0
  const placed: TextToken[] = []
  for (const [index, id] of ids.entries()) {
    if (index % SLICE_LENGTH === SLICE_LENGTH - 1) yield
    const found = find(map.bytes, bytes[index] ?? new Uint8Array(), cursor)
    const { start, stop } = found === undefined ? { start: cursor, stop: cursor } : found
    cursor = stop
    const first = map.characters[start] ?? map.count
    const last = stop > start ? (map.characters[stop - 1] ?? map.count) + (map.widths[stop - 1] ?? 1) : first
    placed.push({ id, text: tokens.spelling(id), start: first, stop: last })
  }
  return placed
}

interface TextMap {
  readonly bytes: Uint8Array
  /** Of each byte: the character (code point) that it belongs to, and how many of them became one by normalising. */
  readonly characters: Uint32Array
  readonly widths: Uint8Array
  readonly count: number
}

/** A character with the marks that combine with it is what normalising may change. */
function* mapOf(text: string, spell: (characters: string) => string): Slices<TextMap> {
  const spelled: (readonly [part: string, width: number])[] = []
  let clusters = 0
  for (const [cluster] of text.toWellFormed().matchAll(/\P{M}\p{M}*|\p{M}+/gu)) {
    const changed = spell(cluster)
    if (changed !== cluster) spelled.push([changed, codePoints(cluster)])
    else for (const character of cluster) spelled.push([character, 1])
    clusters += 1
    if (clusters % SLICE_LENGTH === 0) yield
  }
  const bytes = Buffer.from(spelled.map(([part]) => part).join(''), 'utf8')
  const characters = new Uint32Array(bytes.length)
  const widths = new Uint8Array(bytes.length)
  let at = 0
  let count = 0
  for (const [index, [part, width]] of spelled.entries()) {
    if (index % SLICE_LENGTH === SLICE_LENGTH - 1) yield
    const end = at + Buffer.byteLength(part, 'utf8')
    characters.fill(count, at, end)
    widths.fill(Math.min(255, width), at, end)
    at = end
    count += width
  }
  return { bytes, characters, widths, count }
}

function codePoints(text: string): number {
  return Array.from(text).length
}

function find(bytes: Uint8Array, piece: Uint8Array, cursor: number): { start: number; stop: number } | undefined {
  if (piece.length === 0) return undefined
  const near = Buffer.from(bytes.buffer, bytes.byteOffset + cursor, Math.min(bytes.length - cursor, piece.length + GAP_BYTES))
  const placed = (part: Uint8Array, at: number) => ({ start: cursor + at, stop: cursor + at + part.length })
  if (startsWith(near, piece)) return placed(piece, 0)
  // The space that some tokenizers put before a text is not in it.
  const rest = piece.subarray(1)
  if (piece[0] === SPACE && startsWith(near, rest)) return placed(rest, 0)
  const at = near.indexOf(piece)
  return at === -1 ? undefined : placed(piece, at)
}

function startsWith(bytes: Buffer, start: Uint8Array): boolean {
  return bytes.subarray(0, start.length).equals(start)
}
