import { nextTurn } from '@quiver/cache'
import type { PrefixUsage, SequenceId } from '@quiver/protocol'
import type { PrefixMemory } from '../engine/engine.ts'
import { BlockIndex } from './block-index.ts'
import { BLOCK_TOKENS, blockKeys, type PrefixOwner } from './block-keys.ts'
import { BlockMemory } from './block-memory.ts'

/** Copied in one or two milliseconds. */
const SLICE_BYTES = 2 * 2 ** 20

export interface PrefixCacheOptions {
  /** Where keys and values are copied from and to. */
  readonly memory: PrefixMemory
  readonly budgetBytes: number
  /** So much is copied in one turn of the event loop; absent: 2 MiB. */
  readonly sliceBytes?: number
  /** What else the keys and values depend on: model, element types, what applies adapters. */
  readonly base: string
  /** A copy failed, which no input may bring about. */
  fatal(error: unknown): void
}

interface Restoring {
  readonly sequence: SequenceId
  readonly places: readonly number[]
  done: number
}

interface Saving {
  readonly keys: readonly string[]
  /** Blocks before it are in the cache or were given up. */
  next: number
  /** Blocks that the engine has computed. */
  computed: number
}

/**
 * Keys and values of the beginnings of prompts, in blocks, for requests that begin alike. It is a cache of copies: what a
 * sequence computes is copied out after the step that computed it, and copied in again where a later prompt begins with the same
 * blocks, also while the first still runs. So nobody holds anything of anybody, and every block may leave at any time.
 *
 * Copies go in slices, one in each turn of the event loop. Those out of the engine wait for turns while it computes; those into it are
 * awaited before the step that needs them, and no block leaves meanwhile.
 */
export class PrefixCache {
  readonly #options: PrefixCacheOptions
  readonly #index: BlockIndex
  readonly #blocks: BlockMemory
  readonly #blockBytes: number
  readonly #sliceBytes: number
  readonly #restores: Restoring[] = []
  readonly #saves = new Map<SequenceId, Saving>()
  #isSaving = false
  #hits = 0
  #misses = 0
  #cachedTokens = 0

  constructor(options: PrefixCacheOptions) {
    this.#options = options
    this.#sliceBytes = options.sliceBytes ?? SLICE_BYTES
    this.#blockBytes = options.memory.tokenBytes * BLOCK_TOKENS
    this.#blocks = new BlockMemory(this.#blockBytes, options.budgetBytes)
    this.#index = new BlockIndex(this.#blocks.places)
  }

  /** Whether it can keep anything at all. */
  get hasRoom(): boolean {
    return this.#blocks.places > 0
  }

  /** The names of a prompt's blocks, as far as the cache could keep them. */
  keys(owner: PrefixOwner, promptIds: readonly number[]): readonly string[] {
    return blockKeys(this.#options.base, owner, promptIds, this.#blocks.places)
  }

  /** How many of the first tokens of a prompt need not be computed. Its last one always must: an answer begins with its row. */
  cachedTokens(keys: readonly string[], promptLength: number): number {
    return Math.min(this.#index.match(keys), Math.floor((promptLength - 1) / BLOCK_TOKENS)) * BLOCK_TOKENS
  }

  /**
   * A sequence is admitted: begins to copy what there is of its prompt, which `restored` waits for.
   * @returns the tokens that it need not compute, as `cachedTokens` says
   */
  restore(sequence: SequenceId, keys: readonly string[], promptLength: number): number {
    const tokens = this.cachedTokens(keys, promptLength)
    const blocks = tokens / BLOCK_TOKENS
    this.#saves.set(sequence, { keys, next: blocks, computed: blocks })
    if (tokens === 0) {
      this.#misses += 1
      return 0
    }
    this.#hits += 1
    this.#cachedTokens += tokens
    this.#restores.push({ sequence, places: this.#index.use(keys, blocks), done: 0 })
    return tokens
  }

  /** Copies everything that was found for sequences; must be waited for before a step with rows of theirs. */
  async restored(): Promise<void> {
    for (;;) {
      this.#restoreSlice()
      if (this.#restores.length === 0) return
      await nextTurn()
    }
  }

  /** So many of a prompt's tokens are computed, in a step that went well: what is whole of them is kept. */
  computed(sequence: SequenceId, tokens: number): void {
    const saving = this.#saves.get(sequence)
    if (saving === undefined) return
    saving.computed = Math.min(saving.keys.length, Math.floor(tokens / BLOCK_TOKENS))
    if (saving.next < saving.computed) void this.#saveInTurns()
  }

  /**
   * The engine is about to forget a sequence. What was not copied yet is lost, but for two slices of a sequence that came to
   * its end: a prompt whose answer is a single token leaves in the step that computed it.
   */
  leave(sequence: SequenceId, end: 'complete' | 'broken'): void {
    const saving = this.#saves.get(sequence)
    if (saving === undefined) return
    if (end === 'complete') this.#save(sequence, saving, 2 * this.#sliceBytes)
    this.#saves.delete(sequence)
    const at = this.#restores.findIndex((restoring) => restoring.sequence === sequence)
    if (at >= 0) this.#restores.splice(at, 1)
  }

  usage(): PrefixUsage {
    return {
      hits: this.#hits,
      misses: this.#misses,
      cachedTokens: this.#cachedTokens,
      blocks: this.#index.size,
      bytes: this.#blocks.takenBytes,
      budgetBytes: this.#options.budgetBytes,
      evicted: this.#index.evicted,
    }
  }

  #restoreSlice(): void {
    let left = this.#sliceBytes
    while (left > 0) {
      const restoring = this.#restores[0]
      if (restoring === undefined) return
      const place = restoring.places[restoring.done]
      if (place === undefined) this.#restores.shift()
      else {
        this.#options.memory.copyIn(restoring.sequence, restoring.done * BLOCK_TOKENS, BLOCK_TOKENS, this.#blocks.at(place))
        restoring.done += 1
        left -= this.#blockBytes
      }
    }
  }

  async #saveInTurns(): Promise<void> {
    if (this.#isSaving) return
    this.#isSaving = true
    try {
      for (let left = true; left; ) {
        await nextTurn()
        left = this.#saveSlice()
      }
    } catch (thrown) {
      this.#options.fatal(thrown)
    } finally {
      this.#isSaving = false
    }
  }

  /** @returns whether there is more to copy */
  #saveSlice(): boolean {
    // A block that is yet to be copied in may not leave for one that is copied out.
    if (this.#restores.length > 0) return true
    let left = this.#sliceBytes
    for (const [sequence, saving] of this.#saves) {
      left = this.#save(sequence, saving, left)
      if (left <= 0) return true
    }
    return false
  }

  /** Copies about so many bytes, whole blocks. @returns how many are left of them */
  #save(sequence: SequenceId, saving: Saving, bytes: number): number {
    const { keys, computed } = saving
    // Somebody else may have computed the same meanwhile.
    if (saving.next < computed) saving.next = Math.max(saving.next, this.#index.match(keys))
    const first = saving.next
    const count = Math.min(computed - first, Math.ceil(bytes / this.#blockBytes))
    if (count <= 0) return bytes
    const places = this.#index.add(keys, first, count)
    for (const [i, place] of places.entries()) {
      this.#options.memory.copyOut(sequence, (first + i) * BLOCK_TOKENS, BLOCK_TOKENS, this.#blocks.at(place))
    }
    // Without what it stands on, or without room, a block is of no use, and neither are those after it.
    saving.next = places.length === count ? first + count : keys.length
    return bytes - places.length * this.#blockBytes
  }
}
