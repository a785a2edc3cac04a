import { BASE_SLOT, type SequenceId, type SlotIndex } from '@quiver/protocol'
import type { Engine, StepRow } from '../../packages/worker/src/engine/engine.ts'
import { drawBelow, type Random } from '../shared/random.ts'

/** Drives an engine as the batching loop does: prompts in chunks, then one token of every sequence a step. */
export class EngineDriver {
  readonly engine: Engine
  readonly #random: Random
  /** Sequence → tokens computed so far; in the order in which their prompts came. */
  readonly #positions = new Map<SequenceId, number>()
  #nextSequence = 0

  constructor(engine: Engine, random: Random) {
    this.engine = engine
    this.#random = random
  }

  randomTokens(count: number): number[] {
    return Array.from({ length: count }, () => drawBelow(this.#random, this.engine.model.vocabSize))
  }

  /** Starts `count` sequences with prompts of random tokens on the base model, after releasing those there were. */
  async fill(count: number, promptTokens: number, signal: AbortSignal): Promise<void> {
    this.releaseAll()
    for (let i = 0; i < count; i += 1) {
      signal.throwIfAborted()
      await this.prompt(this.randomTokens(promptTokens), BASE_SLOT)
    }
  }

  /**
   * Computes a prompt as a new sequence, in chunks.
   * @returns how long each chunk took, in milliseconds
   */
  async prompt(tokens: readonly number[], slot: SlotIndex): Promise<number[]> {
    const sequence = this.#nextSequence as SequenceId
    this.#nextSequence += 1
    const { chunkTokens } = this.engine.capacity
    const times: number[] = []
    for (let start = 0; start < tokens.length; start += chunkTokens) {
      const chunk = tokens.slice(start, start + chunkTokens)
      const rows = chunk.map((token, i) => ({ sequence, position: start + i, token, slot }))
      const isLast = start + chunk.length === tokens.length
      times.push(await this.#step(rows, isLast ? [chunk.length - 1] : []))
      this.#positions.set(sequence, start + chunk.length)
    }
    return times
  }

  /**
   * One token of every sequence.
   * @param slotOf slot of the i-th sequence
   * @param tokens the tokens; random ones where left out
   * @returns milliseconds
   */
  async decode(slotOf: (index: number) => SlotIndex, tokens = this.randomTokens(this.#positions.size)): Promise<number> {
    const rows = [...this.#positions].map(([sequence, position], i) => ({
      sequence,
      position,
      token: tokens[i] ?? 0,
      slot: slotOf(i),
    }))
    const time = await this.#step(
      rows,
      rows.map((_, row) => row),
    )
    for (const { sequence, position } of rows) this.#positions.set(sequence, position + 1)
    return time
  }

  releaseAll(): void {
    for (const sequence of this.#positions.keys()) this.engine.release(sequence)
    this.#positions.clear()
  }

  async #step(rows: readonly StepRow[], wanted: readonly number[]): Promise<number> {
    const step = { rows, wanted: wanted.map((row) => ({ row, top: 1 })) }
    const startedAtMs = performance.now()
    await this.engine.step(step)
    return performance.now() - startedAtMs
  }
}
