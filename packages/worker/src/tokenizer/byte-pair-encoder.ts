import { byteCharacters } from './byte-alphabet.ts'
import { createMergeTable, type MergeTable } from './merge-table.ts'
import { createSymbolHeap, type SymbolHeap } from './symbol-heap.ts'
import type { BpeModel } from './tokenizer-json.ts'

/** Pieces up to this length are remembered: words repeat, long runs do not. */
const CACHED_PIECE_CHARACTERS = 64
/** Remembered pieces; when full all are forgotten, which is cheaper than keeping an order. */
const CACHED_PIECES = 16_384
const NONE = -1

/** Turns one piece of text (a word, as the pre-tokenizer cut it) into tokens. Not re-entrant: it reuses its work space. */
export interface BytePairEncoder {
  /** Appends the tokens of `piece` to `into`. */
  encode(piece: string, into: number[]): void
}

/**
 * Byte-pair encoding (Sennrich et al. 2016) as Rust's `tokenizers` does it: all symbols of a piece, then again and again the
 * adjacent pair of the lowest rank, the leftmost first. With a heap and linked symbols a piece of n bytes costs n log n, so
 * that a megabyte without a space (an attack, or base64) takes about a second and not hours.
 *
 * @param alphabet `bytes`: a symbol is a byte of the UTF-8 form; `characters`: a symbol is a character
 */
export function createBytePairEncoder(model: BpeModel, alphabet: 'bytes' | 'characters'): BytePairEncoder {
  const table = createMergeTable(model.merges, model.vocabulary)
  const toSymbols = alphabet === 'bytes' ? byteSymbols(model) : characterSymbols(model)
  const heap = createSymbolHeap()
  const cache = new Map<string, readonly number[]>()

  const encodeAnew = (piece: string): readonly number[] => {
    if (model.ignoreMerges) {
      const whole = model.vocabulary.get(alphabet === 'bytes' ? spellBytes(piece) : piece)
      if (whole !== undefined) return [whole]
    }
    return mergeSymbols(toSymbols(piece), table, heap)
  }

  return {
    encode: (piece, into) => {
      const known = cache.get(piece)
      if (known !== undefined) {
        for (const id of known) into.push(id)
        return
      }
      const ids = encodeAnew(piece)
      for (const id of ids) into.push(id)
      if (piece.length > CACHED_PIECE_CHARACTERS) return
      if (cache.size >= CACHED_PIECES) cache.clear()
      // A fresh copy as key: a slice would keep the whole prompt that it was cut from in memory.
      cache.set(Buffer.from(piece, 'utf8').toString('utf8'), ids)
    },
  }
}

function spellBytes(piece: string): string {
  let spelled = ''
  for (const byte of Buffer.from(piece, 'utf8')) spelled += byteCharacters[byte]
  return spelled
}

function byteSymbols(model: BpeModel): (piece: string) => Int32Array {
  const unknown = model.unknownId ?? NONE
  const ids = Int32Array.from(byteCharacters, (character) => model.vocabulary.get(character) ?? unknown)
  return (piece) => {
    const bytes = Buffer.from(piece, 'utf8')
    const symbols = new Int32Array(bytes.length)
    let count = 0
    for (const byte of bytes) {
      const id = ids[byte] ?? NONE
      if (id !== NONE && !(model.fuseUnknown && id === unknown && count > 0 && symbols[count - 1] === unknown)) {
        symbols[count++] = id
      }
    }
    return symbols.subarray(0, count)
  }
}

function characterSymbols(model: BpeModel): (piece: string) => Int32Array {
  const byteIds = Array.from({ length: 256 }, (_, byte) =>
    model.vocabulary.get(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`),
  )
  return (piece) => {
    const symbols = new Int32Array(Buffer.byteLength(piece, 'utf8'))
    let count = 0
    for (const character of piece) {
      const id = model.vocabulary.get(character)
      if (id !== undefined) {
        symbols[count++] = id
        continue
      }
      const fallback = model.byteFallback ? Array.from(Buffer.from(character, 'utf8'), (byte) => byteIds[byte]) : [undefined]
      if (fallback.every((byteId) => byteId !== undefined)) {
        for (const byteId of fallback) symbols[count++] = byteId
      } else if (model.unknownId !== undefined && !(model.fuseUnknown && symbols[count - 1] === model.unknownId)) {
        symbols[count++] = model.unknownId
      }
    }
    return symbols.subarray(0, count)
  }
}

/** Merges in place; a symbol that was swallowed becomes NONE. */
function mergeSymbols(symbols: Int32Array, table: MergeTable, heap: SymbolHeap): readonly number[] {
  const count = symbols.length
  if (count < 2) return Array.from(symbols)
  const next = Int32Array.from(symbols, (_, at) => (at + 1 < count ? at + 1 : NONE))
  const previous = Int32Array.from(symbols, (_, at) => at - 1)
  const offer = (at: number): void => {
    const after = next[at] ?? NONE
    if (after === NONE) return
    const pair = table.find(symbols[at] ?? NONE, symbols[after] ?? NONE)
    if (pair !== -1) heap.push(table.rankAt(pair), at)
  }

  heap.reset(count * 3)
  for (let at = 0; at < count - 1; at++) offer(at)
  while (heap.pop()) {
    const at = heap.poppedAt
    const after = next[at] ?? NONE
    if (after === NONE || symbols[at] === NONE) continue
    const pair = table.find(symbols[at] ?? NONE, symbols[after] ?? NONE)
    // The pair that was offered here may have changed since; its successor has an entry of its own.
    if (pair === -1 || table.rankAt(pair) !== heap.poppedRank) continue
    symbols[at] = table.mergedAt(pair)
    symbols[after] = NONE
    const beyond = next[after] ?? NONE
    next[at] = beyond
    next[after] = NONE
    if (beyond !== NONE) previous[beyond] = at
    const before = previous[at] ?? NONE
    if (before !== NONE) offer(before)
    offer(at)
  }
  return Array.from(symbols.filter((id) => id !== NONE))
}
