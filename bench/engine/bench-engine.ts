import type { PackedAdapter } from '@quiver/cache'
import type { SlotIndex } from '@quiver/protocol'
import { packedDtype } from '../../packages/worker/src/engine/onnx/onnx-engine.ts'
import { baseLayout } from '../../packages/worker/src/model/model-spec.ts'
import type { BenchContext } from '../bench.ts'
import { type Random, seededRandom } from '../shared/random.ts'
import { EngineDriver } from './engine-driver.ts'
import { type EngineShape, openEngine } from './opened-model.ts'
import { BENCH_RANK, randomPacked } from './random-adapters.ts'
import { RandomWeights } from './random-weights.ts'

export interface BenchEngine {
  readonly driver: EngineDriver
  readonly random: Random
  readonly weights: RandomWeights
  close(): Promise<void>
}

/** An engine with a random adapter of rank 16 in each of its first `adapters` slots. */
export async function openBenchEngine(context: BenchContext, shape: EngineShape, adapters: number): Promise<BenchEngine> {
  const { engine, close } = await openEngine(context, shape)
  const random = seededRandom(context.seed)
  const weights = new RandomWeights(random)
  const layout = baseLayout(engine.model)
  const load = (slot: number, adapter: PackedAdapter) => engine.loadAdapter(slot as SlotIndex, adapter)
  for (let slot = 0; slot < adapters; slot += 1) {
    const { adapter } = await randomPacked(`slot ${slot}`, { layout, rank: BENCH_RANK }, packedDtype(shape.dtype), weights)
    await load(slot, adapter)
  }
  return { driver: new EngineDriver(engine, random), random, weights, close }
}
