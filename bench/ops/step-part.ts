/** Time of one decode step by what applies adapters; sequences hold 160 tokens each on average, as in bench/engine. */
import { BASE_SLOT, type SlotIndex } from '@quiver/protocol'
import type { BenchContext } from '../bench.ts'
import { type Figure, measured, type Target } from '../shared/figure.ts'
import { interleave, Samples } from '../shared/interleave.ts'
import { ratioOfMedians, summarise } from '../shared/statistics.ts'
import { OPS_ROWS, type TwoWays } from './two-ways.ts'

const MEAN_LENGTH = 160
const STEPS_PER_FILL = 60
const WARM_UP_STEPS = 4

const loads = {
  none: { label: 'no adapters', slotOf: () => BASE_SLOT },
  one: { label: 'one adapter for all rows', slotOf: () => 0 as SlotIndex },
  different: { label: 'every row its own adapter', slotOf: (row: number) => row as SlotIndex },
} as const
type Load = keyof typeof loads
const ways = { operator: 'quiver::Lora', standard: 'standard operators' } as const
type Way = keyof typeof ways
type Variant = `${Way}.${Load}`

/** Of a step with adapters, as a multiple of the same engine's step without. */
const targets: Readonly<Record<number, Partial<Record<Load, Target>>>> = {
  1: { one: { at: 'most', value: 1.08 } },
  [OPS_ROWS]: { one: { at: 'most', value: 1.1 }, different: { at: 'most', value: 1.2 } },
}

export async function measureOpsStep(context: BenchContext, engines: TwoWays): Promise<Figure[]> {
  const figures: Figure[] = []
  for (const rows of [1, OPS_ROWS]) {
    const measuredLoads: Load[] = rows === 1 ? ['none', 'one'] : ['none', 'one', 'different']
    const samples = new Samples<Variant>()
    const fills = context.quick ? 1 : 5
    for (let fill = 0; fill < fills; fill += 1) {
      context.progress(`step of ${rows} rows: ${fill + 1} of ${fills}`)
      await measureFill(context, engines, { rows, loads: measuredLoads }, samples)
    }
    figures.push(...figuresOf(rows, measuredLoads, samples))
  }
  return figures
}

async function measureFill(
  { signal }: BenchContext,
  engines: TwoWays,
  { rows, loads: measuredLoads }: { rows: number; loads: readonly Load[] },
  samples: Samples<Variant>,
): Promise<void> {
  const both = [engines.operator, engines.standard]
  for (const { driver } of both) await driver.fill(rows, MEAN_LENGTH - STEPS_PER_FILL / 4 - WARM_UP_STEPS, signal)
  const variants = (Object.keys(ways) as Way[]).flatMap((way) => measuredLoads.map((load): Variant => `${way}.${load}`))
  const step = (variant: Variant) => {
    const [way, load] = variant.split('.') as [Way, Load]
    return engines[way].driver.decode(loads[load].slotOf)
  }
  for (let warmUp = 0; warmUp < WARM_UP_STEPS; warmUp += 1) {
    await step('operator.one')
    await step('standard.one')
  }
  const rounds = Math.floor(STEPS_PER_FILL / variants.length)
  await interleave(variants, { rounds, random: engines.operator.random, signal }, step, samples)
  for (const { driver } of both) driver.releaseAll()
}

function figuresOf(rows: number, measuredLoads: readonly Load[], samples: Samples<Variant>): Figure[] {
  const group = `Decode step, ${rows === 1 ? '1 row' : `${rows} rows`}`
  const of = (way: Way, load: Load) => samples.of(`${way}.${load}`)
  return (Object.keys(ways) as Way[]).flatMap((way) =>
    measuredLoads.flatMap((load): Figure[] => {
      const id = `step.rows${rows}.${way}.${load}`
      const label = `${ways[way]}: ${loads[load].label}`
      const time = measured({ id, group, label, unit: 'ms' }, summarise(of(way, load)))
      if (load === 'none') return [time]
      const value = ratioOfMedians(of(way, load), of(way, 'none'))
      const target = way === 'operator' ? targets[rows]?.[load] : undefined
      const ratio: Figure = { id: `${id}.ratio`, group, label: `${label} ÷ no adapters`, unit: 'x', value }
      return [time, target === undefined ? ratio : { ...ratio, target }]
    }),
  )
}
