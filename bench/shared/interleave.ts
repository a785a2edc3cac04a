/**
 * Comparing on a machine that others use too: what is compared is measured in turns in one loop, in an order drawn anew each
 * round, so that whatever slows the machine down slows all of it alike. Only ratios within one loop mean anything.
 */
import { type Random, shuffled } from './random.ts'

export interface Rounds {
  readonly rounds: number
  readonly random: Random
  /** Ends the loop with its reason, between two measurements. */
  readonly signal: AbortSignal
}

/** Measurements by what was measured, in the order taken. */
export class Samples<K extends string> {
  readonly #samples = new Map<K, number[]>()

  add(name: K, value: number): void {
    const values = this.#samples.get(name)
    if (values) values.push(value)
    else this.#samples.set(name, [value])
  }

  of(name: K): readonly number[] {
    return this.#samples.get(name) ?? []
  }
}

/**
 * Runs every variant once a round. `run` answers its measurement, or undefined for one that does not count.
 * @example await interleave(['with', 'without'], { rounds: 20, random, signal }, timeOf, samples)
 */
export async function interleave<K extends string>(
  variants: readonly K[],
  { rounds, random, signal }: Rounds,
  run: (variant: K, round: number) => Promise<number | undefined>,
  samples: Samples<K> = new Samples<K>(),
): Promise<Samples<K>> {
  for (let round = 0; round < rounds; round += 1) {
    for (const variant of shuffled(variants, random)) {
      signal.throwIfAborted()
      const value = await run(variant, round)
      if (value !== undefined) samples.add(variant, value)
    }
  }
  return samples
}

/** Milliseconds that `work` takes. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAtMs = performance.now()
  await work()
  return performance.now() - startedAtMs
}
