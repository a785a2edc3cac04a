/** Adapters of random weights in a store, published as the server itself publishes, before it starts. */
import { Catalogue, publishAdapter } from '@quiver/gateway'
import { type BaseLayout, parseAdapterName } from '@quiver/protocol'
import type { ObjectStore } from '../../packages/cache/src/store/object-store.ts'
import { baseLayout } from '../../packages/worker/src/model/model-spec.ts'
import { createTokenizer } from '../../packages/worker/src/tokenizer/create-tokenizer.ts'
import type { BenchContext } from '../bench.ts'
import { openBenchModel } from '../engine/opened-model.ts'
import { peftFiles } from '../engine/random-adapters.ts'
import { RandomWeights } from '../engine/random-weights.ts'
import { promptOf } from '../engine/whole-request.ts'
import { seededRandom } from '../shared/random.ts'

/** Rank 8 on all modules of the default model is 4.9 MB in 16 bits. */
export const TIERS_RANK = 8
export const PROMPT_TOKENS = 70

/** What the bench needs to know of the model. */
export interface ServedModel {
  readonly layout: BaseLayout
  /** Of exactly `PROMPT_TOKENS` tokens. */
  readonly prompt: string
}

export async function readServedModel(context: BenchContext): Promise<ServedModel> {
  const model = await openBenchModel(context)
  await model.weights.close()
  const tokenizer = createTokenizer(model.tokenizerFiles, { wallClockMs: () => 0 })
  return { layout: baseLayout(model.spec), prompt: promptOf(tokenizer, PROMPT_TOKENS) }
}

/** Makes so many different adapters, one at a time. */
export function* randomAdapters(context: BenchContext, layout: BaseLayout, count: number) {
  const weights = new RandomWeights(seededRandom(context.seed))
  for (let index = 0; index < count; index += 1) {
    const name = `adapter-${String(index).padStart(3, '0')}`
    yield { name, ...peftFiles({ layout, rank: TIERS_RANK }, weights) }
  }
}

export interface PublishedAdapter {
  readonly name: string
  readonly digest: string
  /** Of its weights file. */
  readonly bytes: number
}

export async function publishRandom(
  context: BenchContext,
  { store, layout, count }: { readonly store: ObjectStore; readonly layout: BaseLayout; readonly count: number },
): Promise<readonly PublishedAdapter[]> {
  const { config, progress, signal } = context
  progress(`publishing ${count} adapters`)
  const deps = { store, catalogue: new Catalogue(store), now: () => new Date() }
  const published: PublishedAdapter[] = []
  for (const { name, ...files } of randomAdapters(context, layout, count)) {
    signal.throwIfAborted()
    const publication = { name: parseAdapterName(name), ...files, layout, maxRank: config.maxRank }
    const { manifest } = await publishAdapter(publication, deps)
    published.push({ name, digest: manifest.digest, bytes: files.weights.length })
  }
  return published
}
