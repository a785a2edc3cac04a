/** Where a tier gets an adapter from that it has lost. */
export type ReloadSource = 'ram' | 'disk' | 'origin' | 'merge'

/** What a reload takes by itself, and for each MiB before anything was measured. In milliseconds; orders of magnitude will do. */
const FIXED_MS: Readonly<Record<ReloadSource, number>> = { ram: 0.2, disk: 1, origin: 20, merge: 50 }
const FIRST_MS_PER_MIB: Readonly<Record<ReloadSource, number>> = { ram: 0.5, disk: 2, origin: 20, merge: 100 }
/** A measured load moves the estimate by this share of the difference. */
const SHARE = 0.1
/** A measurement is taken for at most this many times the first guess, and at least this part of it: one stall is no new normal. */
const BOUND = 100

/** Learns what bringing an adapter back costs, by where from and by its size. */
export class ReloadCosts {
  readonly #msPerMib = { ...FIRST_MS_PER_MIB }

  /** Milliseconds that a reload of `bytes` is going to take; above 0. */
  estimateMs(source: ReloadSource, bytes: number): number {
    return FIXED_MS[source] + this.#msPerMib[source] * mib(bytes)
  }

  /** The estimate as a line: fixedMs + msPerMib × size. */
  line(source: ReloadSource): { readonly fixedMs: number; readonly msPerMib: number } {
    return { fixedMs: FIXED_MS[source], msPerMib: this.#msPerMib[source] }
  }

  /** A load took so long. */
  note(source: ReloadSource, bytes: number, tookMs: number): void {
    if (bytes <= 0) return
    const first = FIRST_MS_PER_MIB[source]
    const measured = Math.max(0, tookMs - FIXED_MS[source]) / mib(bytes)
    const bounded = Math.min(first * BOUND, Math.max(first / BOUND, measured))
    this.#msPerMib[source] += SHARE * (bounded - this.#msPerMib[source])
  }
}

function mib(bytes: number): number {
  return bytes / (1024 * 1024)
}
