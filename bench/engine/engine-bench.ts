import type { Bench, BenchContext } from '../bench.ts'
import type { Figure } from '../shared/figure.ts'
import { measureAdapterLoad } from './adapter-load-part.ts'
import { type BenchEngine, openBenchEngine } from './bench-engine.ts'
import { measureDecode } from './decode-part.ts'
import { measureEventLoop } from './event-loop-part.ts'
import { servedShape } from './opened-model.ts'
import { measurePrefill } from './prefill-part.ts'
import { measureServed } from './served-part.ts'

/** Parts that share one engine in this process, with an adapter in every slot. */
const engineParts: ReadonlyMap<string, (context: BenchContext, engine: BenchEngine) => Promise<Figure[]>> = new Map([
  ['decode', measureDecode],
  ['prefill', measurePrefill],
  ['load', measureAdapterLoad],
  ['event-loop', measureEventLoop],
])
const SERVED = 'served'

export const engineBench: Bench = {
  name: 'engine',
  title: 'One engine, one server',
  description:
    'What a step of the engine costs with and without adapters, how fast prompts are computed, how long an adapter takes from disk ' +
    'to its slot, and what gateway and worker add to that. Adapters have random weights on all seven linear modules. Whatever is ' +
    'compared is measured in turns in one loop; ratios are ratios of medians of one run.',
  parts: [...engineParts.keys(), SERVED],
  async run(context) {
    const isWanted = (part: string) => context.only.length === 0 || context.only.includes(part)
    const figures: Figure[] = []
    const wanted = [...engineParts].filter(([part]) => isWanted(part)).map(([, measure]) => measure)
    if (wanted.length > 0) {
      const shape = servedShape(context)
      context.progress(`opening ${context.config.model} in ${shape.dtype}`)
      const engine = await openBenchEngine(context, shape, shape.slots)
      for (const measure of wanted) figures.push(...(await measure(context, engine)))
      await engine.close()
    }
    if (isWanted(SERVED)) figures.push(...(await measureServed(context)))
    return figures
  },
}
