import assert from 'node:assert/strict'
import type { AdapterDigest } from '@quiver/protocol'
import { LRUCache } from 'lru-cache'
import type { PackedAdapter } from '../format/packed-adapter.ts'

interface Held {
  readonly packed: PackedAdapter
  count: number
}

/**
 * Packed adapters in memory, bounded by bytes. Held ones are counted and stay; the others are evicted, least recently used
 * first, as soon as both together exceed the budget. Held ones alone may exceed it: then nothing else is kept.
 */
export class RamTier {
  readonly #budgetBytes: number
  readonly #held = new Map<AdapterDigest, Held>()
  readonly #idle: LRUCache<AdapterDigest, PackedAdapter>
  #heldBytes = 0
  #evicted = 0

  constructor(budgetBytes: number) {
    assert(Number.isSafeInteger(budgetBytes) && budgetBytes > 0, 'the RAM budget is a positive number of bytes')
    this.#budgetBytes = budgetBytes
    this.#idle = new LRUCache({ maxSize: budgetBytes, sizeCalculation: ({ bytes }) => bytes })
  }

  get heldBytes(): number {
    return this.#heldBytes
  }

  /** Bytes that are here, and how many adapters had to go since the start. */
  get usage(): { readonly bytes: number; readonly heldBytes: number; readonly evicted: number } {
    return { bytes: this.bytes, heldBytes: this.#heldBytes, evicted: this.#evicted }
  }

  /** Held and idle bytes together. */
  get bytes(): number {
    return this.#heldBytes + this.#idle.calculatedSize
  }

  /** An adapter that is here, and how often it is held; its recency stays as it is. */
  peek(digest: AdapterDigest): { readonly packed: PackedAdapter; readonly count: number } | undefined {
    const held = this.#held.get(digest)
    if (held !== undefined) return held
    const packed = this.#idle.peek(digest)
    return packed && { packed, count: 0 }
  }

  /** Holds an adapter that is here once more. */
  hold(digest: AdapterDigest): PackedAdapter | undefined {
    const packed = this.#held.get(digest)?.packed ?? this.#idle.peek(digest)
    return packed && this.holdNew(packed)
  }

  /** Puts an adapter in, held once more. One that is here already stays the one in use. */
  holdNew(packed: PackedAdapter): PackedAdapter {
    const held = this.#held.get(packed.digest)
    if (held !== undefined) {
      held.count += 1
      return held.packed
    }
    this.#idle.delete(packed.digest)
    this.#held.set(packed.digest, { packed, count: 1 })
    this.#heldBytes += packed.bytes
    this.#trim()
    return packed
  }

  /** Ends one hold. After the last one the adapter is the most recently used of the idle ones. */
  drop(digest: AdapterDigest): void {
    const held = this.#held.get(digest)
    assert(held !== undefined && held.count > 0, 'only what is held can be dropped')
    held.count -= 1
    if (held.count > 0) return
    this.#held.delete(digest)
    this.#heldBytes -= held.packed.bytes
    // An adapter larger than the whole budget is not taken by the LRU cache.
    this.#idle.set(digest, held.packed)
    this.#trim()
  }

  #trim(): void {
    while (this.#idle.size > 0 && this.bytes > this.#budgetBytes) {
      this.#idle.pop()
      this.#evicted += 1
    }
  }
}
