import type { Bench, BenchContext } from '../bench.ts'
import type { Figure } from '../shared/figure.ts'
import { measureContest } from './contest-part.ts'
import { measureCrowded } from './crowded-part.ts'
import { measureFlood } from './flood-part.ts'
import { measureFullBatch } from './full-batch-part.ts'
import { measurePace } from './pace-part.ts'
import { measurePrefix } from './prefix-part.ts'
import { measureZipf } from './zipf-part.ts'

/** Half an hour of it is a bench of its own (soak). */
async function measureFewMinutes(context: BenchContext): Promise<Figure[]> {
  const { lags, memory } = await measureFullBatch(context, 'serve', context.quick ? 0.5 : 3)
  return [...lags, ...memory]
}

const parts: ReadonlyMap<string, (context: BenchContext) => Promise<Figure[]>> = new Map([
  ['contest', measureContest],
  ['zipf', measureZipf],
  ['crowded', measureCrowded],
  ['flood', measureFlood],
  ['prefix', measurePrefix],
  ['pace', measurePace],
  ['full-batch', measureFewMinutes],
])

export const serveBench: Bench = {
  name: 'serve',
  title: 'Serving, beside what else there is',
  description:
    'Whole servers on one machine under one load: Quiver over HTTP, through gateway and worker, and every peer that `bench/setup-peers.sh` has ' +
    'installed, all of them up at once and measured in turns. The same weights (the default model; each peer in the form that it ' +
    'computes fastest with), the same adapters (rank 16 on all seven modules, random), prompts of random words that have nothing ' +
    'in common, greedy, the end of the text ignored. OpenVINO GenAI and PEFT are called in a process of their own without a server. ' +
    'The load comes from one more process on the same processors. Speculation and the prefix cache are on, as they are by default.',
  parts: [...parts.keys()],
  charts: [
    {
      name: 'serve-different',
      title: '16 different adapters, 16 at once, 128 in, 64 out',
      ids: 'serve.different.speed.',
      ours: 'quiver',
    },
    { name: 'serve-base', title: 'Base model alone, 16 at once, 128 in, 64 out', ids: 'serve.base.speed.', ours: 'quiver' },
    {
      name: 'serve-first-token',
      title: 'To the first token, 16 different adapters, 16 at once',
      ids: 'serve.different.first-token.',
      ours: 'quiver',
    },
    { name: 'serve-single', title: 'One request with an adapter, 70 in, 10 out', ids: 'serve.single.time.', ours: 'quiver' },
  ],
  async run(context) {
    const figures: Figure[] = []
    for (const [part, measure] of parts) {
      if (context.only.length === 0 || context.only.includes(part)) figures.push(...(await measure(context)))
    }
    return figures
  },
}
