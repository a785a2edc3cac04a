import path from 'node:path'
import { baseLayout } from '../../packages/worker/src/model/model-spec.ts'
import type { BenchContext } from '../bench.ts'
import { seededRandom } from '../shared/random.ts'
import { openBenchModel } from './opened-model.ts'
import { BENCH_RANK, writePeftFolder } from './random-adapters.ts'
import { RandomWeights } from './random-weights.ts'

/** A server, and adapters of rank 16 in folders that it may load from. */
export interface ServedAdapters {
  readonly url: string
  /** Process id of the gateway. */
  readonly pid: number
  /** Folder of the adapters, and their names in it; one for every slot. */
  readonly root: string
  readonly names: readonly string[]
}

/** Writes one adapter for every slot and answers their names. */
export async function writeAdapters(context: BenchContext, root: string): Promise<string[]> {
  const { slots } = context.config
  context.progress(`writing ${slots} adapters`)
  const model = await openBenchModel(context)
  await model.weights.close()
  const shape = { layout: baseLayout(model.spec), rank: BENCH_RANK }
  const weights = new RandomWeights(seededRandom(context.seed))
  const names = Array.from({ length: slots }, (_, i) => `adapter-${String(i).padStart(2, '0')}`)
  for (const name of names) {
    context.signal.throwIfAborted()
    await writePeftFolder(path.join(root, name), shape, weights)
  }
  return names
}
