import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from '@quiver/protocol'
import type { Timers } from './timers.ts'

/** What the process and its neighbours in the same container use of the memory that they may have. */
export interface MemoryUse {
  readonly usedBytes: number
  readonly maxBytes: number
}

/** Undefined where there is no limit, or none that can be seen. Never rejects. */
export type ReadMemory = () => Promise<MemoryUse | undefined>

/** Looks so often. */
const LOOK_MS = 1_000
/** What was given up returns to the system only when the engine's garbage is collected; until then it is not asked for twice. */
const SHRINK_AGAIN_MS = 10_000
/** Of the container's memory, what stays free: a step, a download and the collector need room. */
const RESERVED_SHARE = 0.1

/**
 * What the RAM tier may take now: what it takes already and what is free beyond the reserve; when that is overdrawn, less than it
 * takes. At most its budget, at least 0.
 */
export function ramLimit(
  { usedBytes, maxBytes }: MemoryUse,
  tier: { readonly bytes: number; readonly budgetBytes: number },
): number {
  const freeBytes = maxBytes * (1 - RESERVED_SHARE) - usedBytes
  return Math.max(0, Math.min(tier.budgetBytes, Math.floor(tier.bytes + freeBytes)))
}

export interface MemoryPressureDeps {
  readonly read: ReadMemory
  readonly timers: Timers
  readonly log: Logger
  /** The configured budget of the RAM tier. */
  readonly budgetBytes: number
  /** Bytes in the RAM tier now. */
  readonly tierBytes: () => number
  readonly limit: (bytes: number) => void
}

/** Lets the RAM tier shrink before the system ends a process for want of memory, and grow again afterwards. */
export class MemoryPressure {
  readonly #deps: MemoryPressureDeps
  #stop = (): void => {}
  #isClosed = false
  #limitBytes: number
  /** Looks until it may shrink again. */
  #pausedFor = 0

  constructor(deps: MemoryPressureDeps) {
    this.#deps = deps
    this.#limitBytes = deps.budgetBytes
    this.#next()
  }

  close(): void {
    this.#isClosed = true
    this.#stop()
  }

  #next(): void {
    if (!this.#isClosed) this.#stop = this.#deps.timers.after(LOOK_MS, () => void this.#look())
  }

  async #look(): Promise<void> {
    const use = await this.#deps.read()
    if (this.#isClosed) return
    this.#pausedFor = Math.max(0, this.#pausedFor - 1)
    if (use !== undefined) this.#apply(use)
    this.#next()
  }

  #apply(use: MemoryUse): void {
    const { budgetBytes, limit, log, tierBytes } = this.#deps
    const bytes = tierBytes()
    const wanted = ramLimit(use, { bytes, budgetBytes })
    const shrinks = wanted < bytes
    if (wanted === this.#limitBytes || (shrinks && this.#pausedFor > 0)) return
    if (shrinks) {
      this.#pausedFor = SHRINK_AGAIN_MS / LOOK_MS
      log('warn', 'memory is short: fewer adapters are kept in it', { ...use, fromBytes: bytes, toBytes: wanted })
    }
    this.#limitBytes = wanted
    limit(wanted)
  }
}

/**
 * Reads a control group's memory (cgroup v2) from its folder: what is used, without the file cache that the system can drop at once,
 * and what may be.
 */
export function cgroupMemory(folder: string): ReadMemory {
  const text = (name: string): Promise<string> => readFile(join(folder, name), 'utf8')
  return async () => {
    try {
      const [max, current, stat] = await Promise.all([text('memory.max'), text('memory.current'), text('memory.stat')])
      const droppable = /^inactive_file (\d+)$/m.exec(stat)?.[1] ?? '0'
      const [maxBytes, usedBytes] = [Number(max), Number(current) - Number(droppable)]
      return Number.isFinite(maxBytes) && maxBytes > 0 && Number.isFinite(usedBytes) ? { maxBytes, usedBytes } : undefined
    } catch {
      // No such control group: an older kernel, another system, or no limit at all.
      return undefined
    }
  }
}
