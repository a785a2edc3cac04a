/** Speed of computing prompts, in chunks as a worker does. */
import { BASE_SLOT, type BaseLayout, type SlotIndex } from '@quiver/protocol'
import { baseLayout } from '../../packages/worker/src/model/model-spec.ts'
import type { BenchContext } from '../bench.ts'
import { type Figure, measured } from '../shared/figure.ts'
import { interleave, Samples } from '../shared/interleave.ts'
import { asRate } from '../shared/statistics.ts'
import { type BenchEngine, openBenchEngine } from './bench-engine.ts'

const CHUNKS = 4

const variants = {
  none: { label: 'no adapter', slot: BASE_SLOT },
  one: { label: 'one adapter of rank 16', slot: 0 as SlotIndex },
} as const
type Variant = keyof typeof variants

export async function measurePrefill(context: BenchContext, bench: BenchEngine): Promise<Figure[]> {
  const { dtype } = context.config
  const { chunkTokens } = bench.driver.engine.capacity
  const tokens = CHUNKS * chunkTokens
  const group = `Prefill (prompts of ${tokens} tokens, chunks of ${chunkTokens})`
  const names = ['none', 'one'] as const
  const rounds = context.quick ? 2 : 12
  context.progress(`prefill, ${dtype}: ${rounds} prompts each`)
  const { whole, first } = await measurePrompts(context, bench, names, rounds)
  const target = dtype === 'int8' ? { target: { at: 'least', value: 1500 } as const } : {}
  const figures = names.flatMap((name): Figure[] => [
    measured(
      { id: `prefill.${name}`, group, label: variants[name].label, unit: 'tokens/s', ...target },
      asRate(whole.of(name), 1000 * tokens),
    ),
    measured(
      { id: `prefill.${name}.first-chunk`, group, label: `${variants[name].label}, the first chunk alone`, unit: 'tokens/s' },
      asRate(first.of(name), 1000 * chunkTokens),
    ),
  ])
  figures.push(linearSpeed(figures, group, bench))
  if (dtype !== 'fp32') figures.push(await measureExact(context, group))
  return figures
}

interface PromptTimes {
  /** Milliseconds of whole prompts, and of their first chunks. */
  readonly whole: Samples<Variant>
  readonly first: Samples<Variant>
}

async function measurePrompts(
  { signal }: BenchContext,
  { driver, random }: BenchEngine,
  names: readonly Variant[],
  rounds: number,
): Promise<PromptTimes> {
  const tokens = CHUNKS * driver.engine.capacity.chunkTokens
  const first = new Samples<Variant>()
  const prompt = async (name: Variant, isCounted: boolean): Promise<number> => {
    const times = await driver.prompt(driver.randomTokens(tokens), variants[name].slot)
    driver.releaseAll()
    if (isCounted) first.add(name, times[0] ?? 0)
    return times.reduce((sum, time) => sum + time, 0)
  }
  for (const name of names) await prompt(name, false)
  return { whole: await interleave(names, { rounds, random, signal }, (name) => prompt(name, true)), first }
}

/** What the linear modules alone make of the processor, had all the time gone into them. */
function linearSpeed(figures: readonly Figure[], group: string, { driver }: BenchEngine): Figure {
  const tokensPerSecond = figures.find(({ id }) => id === 'prefill.none')?.value ?? 0
  const value = (tokensPerSecond * operationsPerToken(baseLayout(driver.engine.model))) / 1e9
  return { id: 'prefill.none.speed', group, label: 'no adapter, as products of the linear modules', unit: 'GFLOP/s', value }
}

/** A multiplication and an addition for every weight of the linear modules. */
function operationsPerToken({ layerCount, modules }: BaseLayout): number {
  return 2 * layerCount * modules.reduce((sum, { inFeatures, outFeatures }) => sum + inFeatures * outFeatures, 0)
}

/** The same in float32, to know what this machine can do: its matrix products are ONNX Runtime's oldest and best tuned. */
async function measureExact(context: BenchContext, group: string): Promise<Figure> {
  const rounds = context.quick ? 1 : 6
  context.progress(`prefill, fp32 for comparison: ${rounds} prompts`)
  const exact = await openBenchEngine(context, { dtype: 'fp32', slots: 1, maxRank: 16, sequences: 1 }, 0)
  const { whole } = await measurePrompts(context, exact, ['none'], rounds)
  await exact.close()
  const tokens = CHUNKS * exact.driver.engine.capacity.chunkTokens
  return measured(
    { id: 'prefill.fp32', group, label: 'no adapter, base weights in fp32 instead', unit: 'tokens/s' },
    asRate(whole.of('none'), 1000 * tokens),
  )
}
