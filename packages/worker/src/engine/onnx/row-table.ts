import { strict as assert } from 'node:assert'
import type { SequenceId } from '@quiver/protocol'

/** Copies the first `length` tokens of a row. */
export type MoveRow = (from: number, to: number, length: number) => void

/**
 * Which sequence's keys and values lie in which row. Attention over a batch needs its sequences in neighbouring rows, so rows are
 * moved where a sequence leaves a hole; a spare row, behind the last, serves for exchanging two.
 */
export class RowTable {
  readonly #limit: number
  readonly #move: MoveRow
  /** Row → the sequence in it and its length in tokens. Rows in use are 0 … length−1. */
  readonly #rows: { sequence: SequenceId; length: number }[] = []
  readonly #rowOf = new Map<SequenceId, number>()

  /** @param limit sequences; row `limit` is the spare one */
  constructor(limit: number, move: MoveRow) {
    this.#limit = limit
    this.#move = move
  }

  /** The row of a sequence; a new one gets the next free row. */
  row(sequence: SequenceId): number {
    const known = this.#rowOf.get(sequence)
    if (known !== undefined) return known
    assert(this.#rows.length < this.#limit, 'more sequences than the engine has rows for')
    const row = this.#rows.length
    this.#rows.push({ sequence, length: 0 })
    this.#rowOf.set(sequence, row)
    return row
  }

  length(sequence: SequenceId): number {
    const row = this.#rowOf.get(sequence)
    return row === undefined ? 0 : (this.#rows[row]?.length ?? 0)
  }

  setLength(sequence: SequenceId, length: number): void {
    const entry = this.#rows[this.row(sequence)]
    if (entry) entry.length = length
  }

  /** Brings the given sequences into rows 0 … n−1 and answers them in that order. */
  gather(sequences: readonly SequenceId[]): SequenceId[] {
    const wanted = new Set(sequences)
    for (const sequence of sequences) this.row(sequence)
    let hole = 0
    for (let row = wanted.size; row < this.#rows.length; row += 1) {
      if (!wanted.has(this.#at(row).sequence)) continue
      while (wanted.has(this.#at(hole).sequence)) hole += 1
      this.#exchange(hole, row)
    }
    return Array.from({ length: wanted.size }, (_, row) => this.#at(row).sequence)
  }

  release(sequence: SequenceId): void {
    const row = this.#rowOf.get(sequence)
    if (row === undefined) return
    this.#rowOf.delete(sequence)
    const last = this.#rows.pop()
    if (!last || last.sequence === sequence) return
    this.#move(this.#rows.length, row, last.length)
    this.#put(row, last)
  }

  #at(row: number): { sequence: SequenceId; length: number } {
    const entry = this.#rows[row]
    assert(entry, 'a row in use has an entry')
    return entry
  }

  #put(row: number, entry: { sequence: SequenceId; length: number }): void {
    this.#rows[row] = entry
    this.#rowOf.set(entry.sequence, row)
  }

  #exchange(left: number, right: number): void {
    const [a, b] = [this.#at(left), this.#at(right)]
    this.#move(left, this.#limit, a.length)
    this.#move(right, left, b.length)
    this.#move(this.#limit, right, a.length)
    this.#put(left, b)
    this.#put(right, a)
  }
}
