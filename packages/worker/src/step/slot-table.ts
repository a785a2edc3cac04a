import type { SlotView } from '@quiver/cache'
import type { AdapterDigest, SlotIndex } from '@quiver/protocol'

/**
 * The slots as a plan sees them while it is being made: a private copy in which the plan's own admissions and loads are
 * already counted. Waiting sequences ask for their adapters in the order in which they are to be served, and that order is
 * all there is to fairness over slots:
 *
 * - Who asks first is served first. A free slot is taken, else one is evicted that nobody uses and nobody ahead has asked
 *   for: the least worth keeping (`keepScore`) of those that nobody waits for, else the one that is waited for furthest back.
 * - When every slot is in use, one slot is *drained* for whoever asks: its running sequences go on, but nobody further back
 *   may join them. Without this, steady traffic for a resident adapter would keep its slot for ever and a newcomer would
 *   starve. Drained is the slot with the fewest users (lowest index among equals). That pair (users, index) can only fall
 *   from plan to plan while the same sequence stays in front, so the choice settles and the slot comes free after at most
 *   the longest generation in it.
 */
export class SlotTable {
  readonly #entries: Entry[]
  readonly #byDigest = new Map<AdapterDigest, Entry>()
  /** Adapters that wait for a slot to drain: one slot each, however many sequences ask. */
  readonly #starved = new Set<AdapterDigest>()

  /** @param waiting the adapters that are going to be asked for, in that order */
  constructor(slots: readonly SlotView[], waiting: readonly AdapterDigest[]) {
    const turns = new Map<AdapterDigest, number>()
    for (const [turn, digest] of waiting.entries()) if (!turns.has(digest)) turns.set(digest, turn)
    this.#entries = slots.map((view) => ({
      slot: view.slot,
      generation: view.generation,
      state: view.state,
      users: view.state === 'resident' ? view.leaseCount : 0,
      keepScore: view.state === 'resident' ? view.keepScore : 0,
      lastUsedMs: view.state === 'resident' ? view.lastUsedMs : 0,
      turn: (view.state === 'free' ? undefined : turns.get(view.digest)) ?? Number.POSITIVE_INFINITY,
      askedFor: false,
      draining: false,
      digest: view.state === 'free' ? undefined : view.digest,
    }))
    for (const entry of this.#entries) if (entry.digest !== undefined) this.#byDigest.set(entry.digest, entry)
  }

  /** The running sequence's slot as it must still be: resident, unchanged hands, in use. */
  holds(use: { readonly digest: AdapterDigest; readonly slot: SlotIndex; readonly generation: number }): boolean {
    const entry = this.#entries[use.slot]
    return (
      entry !== undefined &&
      entry.state === 'resident' &&
      entry.digest === use.digest &&
      entry.generation === use.generation &&
      entry.users > 0
    )
  }

  /** A running sequence leaves its slot. */
  leave(slot: SlotIndex): void {
    const entry = this.#entries[slot]
    if (entry !== undefined) entry.users -= 1
  }

  /** A sequence is admitted to a slot. */
  join(slot: SlotIndex): void {
    const entry = this.#entries[slot]
    if (entry !== undefined) entry.users += 1
  }

  /** The next waiting sequence asks for its adapter. `ready`: it could be loaded now. */
  ask(digest: AdapterDigest, ready: boolean): SlotAnswer {
    const entry = this.#byDigest.get(digest)
    if (entry !== undefined && !entry.draining) {
      entry.askedFor = true
      return entry.state === 'resident' ? { kind: 'use', slot: entry.slot, generation: entry.generation } : wait
    }
    // Its own slot drains for somebody ahead: loading it a second time elsewhere would put one adapter into two slots.
    if (entry !== undefined || !ready || this.#starved.has(digest)) return wait
    const place = this.#free() ?? this.#leastMissed()
    if (place === undefined) {
      this.#starved.add(digest)
      const drained = this.#fewestUsers()
      if (drained !== undefined) drained.draining = true
      return wait
    }
    if (place.digest !== undefined) this.#byDigest.delete(place.digest)
    place.state = 'loading'
    place.digest = digest
    place.askedFor = true
    this.#byDigest.set(digest, place)
    return { kind: 'load', slot: place.slot, generation: place.generation }
  }

  #free(): Entry | undefined {
    return this.#entries.find((entry) => entry.state === 'free')
  }

  #leastMissed(): Entry | undefined {
    const unused = this.#candidates().filter((entry) => entry.users === 0)
    return unused.toSorted(
      (a, b) => descending(a.turn, b.turn) || descending(b.keepScore, a.keepScore) || a.lastUsedMs - b.lastUsedMs,
    )[0]
  }

  #fewestUsers(): Entry | undefined {
    return this.#candidates().toSorted((a, b) => a.users - b.users)[0]
  }

  /** In the order of their index, which decides among equals because sorting is stable. */
  #candidates(): Entry[] {
    return this.#entries.filter((entry) => entry.state === 'resident' && !entry.askedFor && !entry.draining)
  }
}

export type SlotAnswer =
  | { readonly kind: 'use' | 'load'; readonly slot: SlotIndex; readonly generation: number }
  | { readonly kind: 'wait' }

interface Entry {
  readonly slot: SlotIndex
  readonly generation: number
  state: SlotView['state']
  digest: AdapterDigest | undefined
  users: number
  readonly keepScore: number
  readonly lastUsedMs: number
  /** Whose turn it is when it is first asked for; Infinity when nobody waits for it. */
  readonly turn: number
  /** Somebody asked for it in this plan: those further back do not evict or drain it. */
  askedFor: boolean
  draining: boolean
}

/** Also of infinities, whose difference is no number. */
function descending(a: number, b: number): number {
  return a === b ? 0 : a < b ? 1 : -1
}

const wait: SlotAnswer = { kind: 'wait' }
