import type { Bench } from '../bench.ts'
import { measureFullBatch } from './full-batch-part.ts'

export const soakBench: Bench = {
  name: 'soak',
  title: 'Half an hour of a full batch',
  description:
    'Quiver as in `serve`, through gateway and worker, with as many requests at once as it computes together, each for the next of 64 ' +
    'adapters on 32 slots: every request loads one. Memory is what the system counts as resident, pages of mapped files included.',
  parts: ['full-batch'],
  async run(context) {
    return await measureFullBatch(context, 'soak', context.quick ? 0.5 : 30)
  },
}
