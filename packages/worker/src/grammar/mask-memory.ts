import assert from 'node:assert/strict'

/** Where a mask stands: `done`: the text has ended; `stuck`: no token can follow, or one came that was not allowed. */
export const maskStates = ['open', 'done', 'stuck'] as const
export type MaskState = (typeof maskStates)[number]

const TURN = 0
const STATE = 1
const HEADER_WORDS = 2

/**
 * One text's mask in memory that two threads see: how many tokens it is about [1], its state [1], and a bit for every token of
 * the vocabulary, lowest bit first. The grammar thread writes it and moves the turn on last; the batching loop reads it after
 * the turn has come.
 */
export class MaskMemory {
  readonly shared: SharedArrayBuffer
  readonly words: Int32Array<SharedArrayBuffer>
  readonly #header: Int32Array<SharedArrayBuffer>

  constructor(shared: SharedArrayBuffer) {
    this.shared = shared
    this.#header = new Int32Array(shared, 0, HEADER_WORDS)
    this.words = new Int32Array(shared, HEADER_WORDS * Int32Array.BYTES_PER_ELEMENT)
  }

  static forVocabulary(vocabSize: number): MaskMemory {
    const words = HEADER_WORDS + Math.ceil(vocabSize / 32)
    const memory = new MaskMemory(new SharedArrayBuffer(words * Int32Array.BYTES_PER_ELEMENT))
    Atomics.store(memory.#header, TURN, -1)
    return memory
  }

  get state(): MaskState {
    const state = maskStates[Atomics.load(this.#header, STATE)]
    assert(state !== undefined, 'a mask has a state')
    return state
  }

  publish(turn: number, state: MaskState): void {
    Atomics.store(this.#header, STATE, maskStates.indexOf(state))
    Atomics.store(this.#header, TURN, turn)
    Atomics.notify(this.#header, TURN)
  }

  /** Stops this thread until the mask after `turn` tokens is there. @returns whether it came in time */
  waitFor(turn: number, patienceMs: number): boolean {
    // Each wait ends with a turn or with the patience; turns only go up.
    for (let now = Atomics.load(this.#header, TURN); now < turn; now = Atomics.load(this.#header, TURN)) {
      if (Atomics.wait(this.#header, TURN, now, patienceMs) === 'timed-out') return false
    }
    return true
  }
}
