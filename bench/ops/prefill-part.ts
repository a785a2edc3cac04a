/** Time of 128 tokens of a prompt, computed at once, with one adapter and without. */
import { BASE_SLOT, type SlotIndex } from '@quiver/protocol'
import type { BenchContext } from '../bench.ts'
import { type Figure, measured } from '../shared/figure.ts'
import { interleave } from '../shared/interleave.ts'
import { ratioOfMedians, summarise } from '../shared/statistics.ts'
import type { TwoWays } from './two-ways.ts'

const TOKENS = 128
const MOST_RATIO = 1.1

const variants = {
  'operator.none': { label: 'quiver::Lora: no adapter', way: 'operator', slot: BASE_SLOT },
  'operator.one': { label: 'quiver::Lora: one adapter', way: 'operator', slot: 0 as SlotIndex },
  'standard.none': { label: 'standard operators: no adapter', way: 'standard', slot: BASE_SLOT },
  'standard.one': { label: 'standard operators: one adapter', way: 'standard', slot: 0 as SlotIndex },
} as const
type Variant = keyof typeof variants

export async function measureOpsPrefill(context: BenchContext, engines: TwoWays): Promise<Figure[]> {
  const names = Object.keys(variants) as Variant[]
  const prompt = async (name: Variant): Promise<number> => {
    const { way, slot } = variants[name]
    const { driver } = engines[way]
    const times = await driver.prompt(driver.randomTokens(TOKENS), slot)
    driver.releaseAll()
    return times.reduce((sum, time) => sum + time, 0)
  }
  const rounds = context.quick ? 3 : 40
  context.progress(`prefill of ${TOKENS} tokens: ${rounds} each`)
  for (const name of names) await prompt(name)
  const { random } = engines.operator
  const samples = await interleave(names, { rounds, random, signal: context.signal }, prompt)
  const group = `Prefill of ${TOKENS} tokens`
  const times = names.map((name) =>
    measured({ id: `prefill.${name}`, group, label: variants[name].label, unit: 'ms' }, summarise(samples.of(name))),
  )
  const ratio = (way: 'operator' | 'standard'): Figure => ({
    id: `prefill.${way}.one.ratio`,
    group,
    label: `${variants[`${way}.one`].label} ÷ none`,
    unit: 'x',
    value: ratioOfMedians(samples.of(`${way}.one`), samples.of(`${way}.none`)),
  })
  return [...times, { ...ratio('operator'), target: { at: 'most', value: MOST_RATIO } }, ratio('standard')]
}
