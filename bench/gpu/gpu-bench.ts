import { missingGpu } from '../../packages/worker/src/cuda/driver.ts'
import type { Bench, BenchContext } from '../bench.ts'
import type { Figure } from '../shared/figure.ts'
import { measureGpuEngine } from './engine-part.ts'
import { measureKernels } from './kernels-part.ts'

const parts: ReadonlyMap<string, (context: BenchContext) => Promise<Figure[]>> = new Map([
  ['kernels', measureKernels],
  ['engine', measureGpuEngine],
])

export const gpuBench: Bench = {
  name: 'gpu',
  title: 'On a GPU',
  description:
    'The decode kernels of quiver::Lora against a plain copy inside the device: one row for each of 32 adapters, in sets that no cache holds. ' +
    'Then the engine on the GPU: a step over 32 rows with and without 32 adapters, in turns in one loop, and an adapter copied into a slot.',
  parts: [...parts.keys()],
  missing: missingGpu,
  async run(context) {
    const figures: Figure[] = []
    for (const [name, measure] of parts) {
      if (context.only.length === 0 || context.only.includes(name)) figures.push(...(await measure(context)))
    }
    return figures
  },
}
