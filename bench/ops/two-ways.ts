import type { BenchEngine } from '../engine/bench-engine.ts'

/** The same model, weights and adapters twice: adapters by our own operator, and by standard operators. */
export interface TwoWays {
  readonly operator: BenchEngine
  readonly standard: BenchEngine
}

/** Adapters in slots, and rows of the widest step. */
export const OPS_ROWS = 16
