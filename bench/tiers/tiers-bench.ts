import type { Bench, BenchContext } from '../bench.ts'
import type { Figure } from '../shared/figure.ts'
import { measureCatalogue } from './catalogue-part.ts'
import { measureCold } from './cold-part.ts'
import { measureCrowd } from './crowd-part.ts'
import { measureDevice } from './device-part.ts'
import { measureEviction } from './eviction-part.ts'
import { measurePublish } from './publish-part.ts'
import { measureStream } from './stream-part.ts'

const parts: ReadonlyMap<string, (context: BenchContext) => Promise<Figure[]>> = new Map([
  ['publish', measurePublish],
  ['cold', measureCold],
  ['crowd', measureCrowd],
  ['device', measureDevice],
  ['stream', measureStream],
  ['catalogue', measureCatalogue],
  ['eviction', measureEviction],
])

export const tiersBench: Bench = {
  name: 'tiers',
  title: 'Adapters on their way',
  description:
    'How long an adapter takes to where it is needed: from its upload to the first answer, from S3 to its first token, from RAM into a slot, and what its coming costs the ' +
    'others; how often it is read when many want it at once; how a catalogue of 10,000 adapters is read and answers; and what the ' +
    'tiers’ policy saves. The S3 server (SeaweedFS), Redis and `quiver serve` are processes on the same machine, reached over loopback.',
  parts: [...parts.keys()],
  async run(context) {
    const figures: Figure[] = []
    for (const [part, measure] of parts) {
      if (context.only.length === 0 || context.only.includes(part)) figures.push(...(await measure(context)))
    }
    return figures
  },
}
