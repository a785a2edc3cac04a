import assert from 'node:assert/strict'
import type { AdapterDigest } from '@quiver/protocol'
import type { PackedAdapter } from '../format/packed-adapter.ts'
import { EvictionQueue } from '../policy/eviction-queue.ts'

interface Held {
  readonly packed: PackedAdapter
  count: number
}

/**
 * Packed adapters in memory, bounded by bytes. Held ones are counted and stay; of the others those that are least worth
 * keeping are evicted as soon as both together exceed the budget. Held ones alone may exceed it: then nothing else is kept.
 */
export class RamTier {
  readonly #configuredBytes: number
  readonly #held = new Map<AdapterDigest, Held>()
  readonly #idle = new Map<AdapterDigest, PackedAdapter>()
  readonly #leaving: EvictionQueue<AdapterDigest>
  readonly #changed: (digest: AdapterDigest) => void
  #budgetBytes: number
  #heldBytes = 0
  #idleBytes = 0
  #evicted = 0

  /**
   * @param scoreOf what an adapter is worth to keep; the least goes first
   * @param changed an adapter has come or gone
   */
  constructor(
    budgetBytes: number,
    scoreOf: (packed: PackedAdapter) => number,
    changed: (digest: AdapterDigest) => void = () => {},
  ) {
    assert(Number.isSafeInteger(budgetBytes) && budgetBytes > 0, 'the RAM budget is a positive number of bytes')
    this.#configuredBytes = budgetBytes
    this.#budgetBytes = budgetBytes
    this.#changed = changed
    this.#leaving = new EvictionQueue((digest) => {
      const packed = this.#idle.get(digest)
      assert(packed !== undefined, 'only idle adapters may have to leave')
      return scoreOf(packed)
    })
  }

  get heldBytes(): number {
    return this.#heldBytes
  }

  /** The most that may be here now. */
  get budgetBytes(): number {
    return this.#budgetBytes
  }

  get hasRoom(): boolean {
    return this.#heldBytes < this.#budgetBytes
  }

  /** Bytes that are here, and how many adapters had to go since the start. */
  get usage(): { readonly bytes: number; readonly heldBytes: number; readonly evicted: number; readonly budgetBytes: number } {
    return { bytes: this.bytes, heldBytes: this.#heldBytes, evicted: this.#evicted, budgetBytes: this.#budgetBytes }
  }

  /** Held and idle bytes together. */
  get bytes(): number {
    return this.#heldBytes + this.#idleBytes
  }

  /** Everything that is here. */
  *digests(): Iterable<AdapterDigest> {
    yield* this.#held.keys()
    yield* this.#idle.keys()
  }

  /** Takes less than the configured budget for a while, at least one byte; never more. */
  limit(bytes: number): void {
    this.#budgetBytes = Math.max(1, Math.min(Math.floor(bytes), this.#configuredBytes))
    this.#trim()
  }

  /** An adapter that is here, and how often it is held; what it is worth stays as it is. */
  peek(digest: AdapterDigest): { readonly packed: PackedAdapter; readonly count: number } | undefined {
    const held = this.#held.get(digest)
    if (held !== undefined) return held
    const packed = this.#idle.get(digest)
    return packed && { packed, count: 0 }
  }

  /** Holds an adapter that is here once more. */
  hold(digest: AdapterDigest): PackedAdapter | undefined {
    const packed = this.peek(digest)?.packed
    return packed && this.holdNew(packed)
  }

  /** Puts an adapter in, held once more. One that is here already stays the one in use. */
  holdNew(packed: PackedAdapter): PackedAdapter {
    const held = this.#held.get(packed.digest)
    if (held !== undefined) {
      held.count += 1
      return held.packed
    }
    this.#takeIdle(packed.digest)
    this.#held.set(packed.digest, { packed, count: 1 })
    this.#heldBytes += packed.bytes
    this.#changed(packed.digest)
    this.#trim()
    return packed
  }

  /** Ends one hold. After the last one the adapter may have to leave. */
  drop(digest: AdapterDigest): void {
    const held = this.#held.get(digest)
    assert(held !== undefined && held.count > 0, 'only what is held can be dropped')
    held.count -= 1
    if (held.count > 0) return
    this.#held.delete(digest)
    this.#heldBytes -= held.packed.bytes
    this.#idle.set(digest, held.packed)
    this.#idleBytes += held.packed.bytes
    this.#leaving.put(digest)
    this.#trim()
  }

  #takeIdle(digest: AdapterDigest): void {
    this.#leaving.delete(digest)
    this.#idleBytes -= this.#idle.get(digest)?.bytes ?? 0
    this.#idle.delete(digest)
  }

  #trim(): void {
    while (this.bytes > this.#budgetBytes) {
      const digest = this.#leaving.takeLeast()
      if (digest === undefined) return
      this.#takeIdle(digest)
      this.#evicted += 1
      this.#changed(digest)
    }
  }
}
