import type { Bench, BenchContext } from '../bench.ts'
import { openBenchEngine } from '../engine/bench-engine.ts'
import { servedShape } from '../engine/opened-model.ts'
import type { Figure } from '../shared/figure.ts'
import { measureBandwidth } from './bandwidth-part.ts'
import { measureOpsPrefill } from './prefill-part.ts'
import { measureProducts } from './product-part.ts'
import { measureOpsStep } from './step-part.ts'
import { OPS_ROWS, type TwoWays } from './two-ways.ts'

const engineParts: ReadonlyMap<string, (context: BenchContext, ways: TwoWays) => Promise<Figure[]>> = new Map([
  ['step', measureOpsStep],
  ['prefill', measureOpsPrefill],
])
const BANDWIDTH = 'bandwidth'
const PRODUCTS = 'products'

export const opsBench: Bench = {
  name: 'ops',
  title: 'Adapters by our own operator',
  description:
    'What adapters of rank 16 on all seven linear modules add to a step of the engine when quiver::Lora applies them, and when standard ' +
    'operators do: two engines of the same model, measured in turns in one loop, each compared with itself without adapters. Then the ' +
    'operator alone: how many bytes of adapter weights it reads in a second, against a plain sum over as many bytes. And all products with 8-bit ' +
    'weights that a model of this size has, by quiver::Product8 and by ONNX Runtime.',
  parts: [...engineParts.keys(), BANDWIDTH, PRODUCTS],
  async run(context) {
    const isWanted = (part: string) => context.only.length === 0 || context.only.includes(part)
    const figures: Figure[] = []
    const wanted = [...engineParts].filter(([part]) => isWanted(part)).map(([, measure]) => measure)
    if (wanted.length > 0) {
      const shape = { ...servedShape(context), sequences: OPS_ROWS, slots: OPS_ROWS }
      context.progress(`opening ${context.config.model} in ${shape.dtype} twice`)
      const operator = await openBenchEngine(context, { ...shape, lora: 'operator' }, OPS_ROWS)
      const standard = await openBenchEngine(context, { ...shape, lora: 'standard' }, OPS_ROWS)
      for (const measure of wanted) figures.push(...(await measure(context, { operator, standard })))
      await operator.close()
      await standard.close()
    }
    if (isWanted(BANDWIDTH)) figures.push(...(await measureBandwidth(context)))
    if (isWanted(PRODUCTS)) figures.push(...(await measureProducts(context)))
    return figures
  },
}
