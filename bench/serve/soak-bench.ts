import type { Bench } from '../bench.ts'
import { measureFullBatch } from './full-batch-part.ts'

export const soakBench: Bench = {
  name: 'soak',
  title: 'Half an hour of a full batch',
  description:
    'Quiver as in `serve`, through gateway and worker, with as many requests at once as it computes together, each for the next of 64 ' +
    'adapters, twice as many as there are slots by default, so that they come and go all the time. Memory is what the system counts as ' +
    'resident, pages of mapped files included. How fast anything is does not matter here: other programs may run beside it.',
  parts: ['full-batch'],
  async run(context) {
    const { memory } = await measureFullBatch(context, 'soak', context.quick ? 0.5 : 30)
    return memory
  },
}
