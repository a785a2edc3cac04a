import assert from 'node:assert/strict'
import { type AdapterDigest, assertNever, type Clock, type SlotIndex } from '@quiver/protocol'
import type { DeviceMemory } from '../device-memory.ts'
import type { PackedAdapter } from '../format/packed-adapter.ts'
import { GhostList } from '../policy/ghost-list.ts'
import type { SlotView } from '../residency.ts'

/** A running sequence's right to compute with a slot. While it is held the slot keeps its adapter and its generation. */
export interface SlotLease {
  readonly slot: SlotIndex
  readonly generation: number
  readonly digest: AdapterDigest
  /** Idempotent. */
  release(): void
}

/** Which adapter is in which slot of the engine. */
export interface DeviceTier {
  snapshot(): readonly SlotView[]
  /** The slot where this adapter is resident; not while it loads. */
  slotOf(digest: AdapterDigest): SlotIndex | undefined
  /**
   * Evicts the occupant (asserts: no lease), copies the adapter in, then the slot is resident with a new generation. Rejects
   * when the copy failed; the slot is then free. Asserts that no other slot has or loads this adapter.
   */
  load(slot: SlotIndex, packed: PackedAdapter): Promise<void>
  /** Asserts that the slot is resident with this digest. */
  lease(slot: SlotIndex, digest: AdapterDigest): SlotLease
}

type SlotState =
  | { readonly state: 'free' }
  | { readonly state: 'loading'; readonly digest: AdapterDigest; readonly startedAtMs: number }
  | { readonly state: 'resident'; readonly digest: AdapterDigest; readonly bytes: number; leaseCount: number; lastUsedMs: number }

interface Slot {
  generation: number
  content: SlotState
}

/** What the cache reports of an adapter in the device. */
export type DevicePresence = Exclude<SlotState, { state: 'free' }>

export interface DeviceSlotsDeps {
  readonly memory: DeviceMemory
  readonly clock: Clock
  /** What an adapter is worth to keep in a slot; the plan lets the least go first. */
  readonly scoreOf: (digest: AdapterDigest, bytes: number) => number
  /** An adapter was copied into a slot. */
  readonly noteCopy: (bytes: number, tookMs: number) => void
  /** An adapter has come into a slot, left one, or begun to come. */
  readonly changed?: (digest: AdapterDigest) => void
}

export class DeviceSlots implements DeviceTier {
  readonly #memory: DeviceMemory
  readonly #clock: Clock
  readonly #scoreOf: DeviceSlotsDeps['scoreOf']
  readonly #noteCopy: DeviceSlotsDeps['noteCopy']
  readonly #changed: (digest: AdapterDigest) => void
  readonly #ghosts: GhostList
  readonly #slots: readonly Slot[]
  readonly #byDigest = new Map<AdapterDigest, SlotIndex>()
  #evicted = 0

  constructor({ memory, clock, scoreOf, noteCopy, changed = () => {} }: DeviceSlotsDeps) {
    this.#memory = memory
    this.#clock = clock
    this.#scoreOf = scoreOf
    this.#noteCopy = noteCopy
    this.#changed = changed
    this.#ghosts = new GhostList(clock)
    this.#slots = Array.from({ length: memory.slots }, () => ({ generation: 0, content: { state: 'free' } }))
  }

  /** Bytes of the resident adapters, and how many have made way for others since the start. */
  get usage(): { readonly bytes: number; readonly evicted: number } {
    const bytes = this.#slots.reduce((sum, { content }) => sum + (content.state === 'resident' ? content.bytes : 0), 0)
    return { bytes, evicted: this.#evicted }
  }

  /** How many slots would have kept every adapter that came back lately. */
  get slotsWanted(): number {
    return this.#byDigest.size + this.#ghosts.slotsMissing()
  }

  /** Adapters that are in a slot or on their way into one. */
  digests(): Iterable<AdapterDigest> {
    return this.#byDigest.keys()
  }

  snapshot(): readonly SlotView[] {
    return this.#slots.map(({ generation, content }, index): SlotView => {
      const slot = index as SlotIndex
      switch (content.state) {
        case 'free':
          return { state: 'free', slot, generation }
        case 'loading':
          return { state: 'loading', slot, generation, digest: content.digest }
        case 'resident': {
          const { digest, leaseCount, lastUsedMs, bytes } = content
          const keepScore = this.#scoreOf(digest, bytes)
          return { state: 'resident', slot, generation, digest, leaseCount, lastUsedMs, keepScore }
        }
        default:
          return assertNever(content)
      }
    })
  }

  slotOf(digest: AdapterDigest): SlotIndex | undefined {
    const slot = this.#byDigest.get(digest)
    return slot !== undefined && this.#at(slot).content.state === 'resident' ? slot : undefined
  }

  /** Like `slotOf`, but with what is known of the slot, also while it loads. */
  presence(digest: AdapterDigest): DevicePresence | undefined {
    const slot = this.#byDigest.get(digest)
    const content = slot === undefined ? undefined : this.#at(slot).content
    return content?.state === 'free' ? undefined : content
  }

  async load(slot: SlotIndex, packed: PackedAdapter): Promise<void> {
    const { digest, bytes } = packed
    const place = this.#at(slot)
    assert(!this.#byDigest.has(digest), 'an adapter is in one slot at most')
    // Before the eviction: who makes way for it now was not missing.
    this.#ghosts.loaded(digest)
    this.#evict(place)
    place.generation += 1
    const startedAtMs = this.#clock.nowMs()
    place.content = { state: 'loading', digest, startedAtMs }
    this.#byDigest.set(digest, slot)
    this.#changed(digest)
    try {
      await this.#memory.loadAdapter(slot, packed)
    } catch (thrown) {
      // Half an adapter may be there: zeros compute the base model, and the next load starts from known ground.
      this.#memory.clearSlot(slot)
      this.#byDigest.delete(digest)
      place.content = { state: 'free' }
      this.#changed(digest)
      throw thrown
    }
    const nowMs = this.#clock.nowMs()
    place.content = { state: 'resident', digest, bytes, leaseCount: 0, lastUsedMs: nowMs }
    this.#ghosts.loaded(digest)
    this.#changed(digest)
    this.#noteCopy(bytes, nowMs - startedAtMs)
  }

  lease(slot: SlotIndex, digest: AdapterDigest): SlotLease {
    const { content, generation } = this.#at(slot)
    assert(content.state === 'resident' && content.digest === digest, 'a slot is leased for the adapter that is resident in it')
    content.leaseCount += 1
    content.lastUsedMs = this.#clock.nowMs()
    let held = true
    return {
      slot,
      generation,
      digest,
      release: () => {
        if (!held) return
        held = false
        content.leaseCount -= 1
        content.lastUsedMs = this.#clock.nowMs()
      },
    }
  }

  #evict({ content }: Slot): void {
    assert(content.state !== 'loading', 'a slot that loads is not given to another adapter')
    if (content.state === 'free') return
    assert(content.leaseCount === 0, 'a leased slot is never evicted')
    this.#byDigest.delete(content.digest)
    this.#ghosts.evicted(content.digest)
    this.#changed(content.digest)
    this.#evicted += 1
  }

  #at(slot: SlotIndex): Slot {
    const place = this.#slots[slot]
    assert(place !== undefined, `there is no slot ${slot}`)
    return place
  }
}
