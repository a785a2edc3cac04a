/**
 * Time of one decode step, by how many rows it has and how they share adapters. The variants of one row count are measured
 * in turns on the same sequences, which hold 160 tokens each on average: a step adds one, and after 64 the prompts are
 * computed anew.
 */
import { BASE_SLOT, type SlotIndex } from '@quiver/protocol'
import type { BenchContext } from '../bench.ts'
import { type Figure, measured, type Target } from '../shared/figure.ts'
import { interleave, Samples } from '../shared/interleave.ts'
import { ratioOfMedians, summarise } from '../shared/statistics.ts'
import { type BenchEngine, openBenchEngine } from './bench-engine.ts'
import { servedShape } from './opened-model.ts'

const MEAN_LENGTH = 160
const STEPS_PER_FILL = 64
/** Behind every computing of prompts, not counted: caches hold other things then. */
const WARM_UP_STEPS = 4
/** Rows at which targets are set, and which are measured with both maxima of rank. */
const TARGET_ROWS = 16
const SMALL_MAX_RANK = 16
/** Two measurements of the same thing lie this far apart on a busy machine: what is called "no more" must allow for it. */
const NOISE = 1.05

const variants = {
  none: { label: 'no adapters', slotOf: () => BASE_SLOT },
  one: { label: 'one adapter for all rows', slotOf: () => 0 as SlotIndex },
  four: { label: '4 adapters', slotOf: (row: number) => (row % 4) as SlotIndex },
  different: { label: 'every row its own adapter', slotOf: (row: number) => row as SlotIndex },
} as const
type Variant = keyof typeof variants

const targets: Partial<Record<Variant, Target>> = {
  one: { at: 'most', value: 1.5 },
  different: { at: 'most', value: 1.8 },
}

/** @param bench with as many adapters in slots as the largest row count */
export async function measureDecode(context: BenchContext, bench: BenchEngine): Promise<Figure[]> {
  const { dtype, maxRank, slots, sequences } = servedShape(context)
  const fills = context.quick ? 1 : 3
  const steps = (rows: number): Variant[] => (rows === 1 ? ['none', 'one'] : ['none', 'one', 'four', 'different'])
  const small = await openBenchEngine(context, { dtype, slots, sequences: TARGET_ROWS, maxRank: SMALL_MAX_RANK }, TARGET_ROWS)
  const atLarge = new Samples<Variant>()
  const atSmall = new Samples<Variant>()
  for (let fill = 0; fill < fills; fill += 1) {
    context.progress(`decode, ${TARGET_ROWS} rows, maxRank ${maxRank} and ${SMALL_MAX_RANK}: ${fill + 1} of ${fills}`)
    await measureFill(context, bench, { rows: TARGET_ROWS, variants: steps(TARGET_ROWS) }, atLarge)
    await measureFill(context, small, { rows: TARGET_ROWS, variants: steps(TARGET_ROWS) }, atSmall)
  }
  await small.close()
  const figures = new Map([[TARGET_ROWS, figuresOf(TARGET_ROWS, steps(TARGET_ROWS), atLarge)]])
  for (const rows of [1, sequences]) {
    const samples = new Samples<Variant>()
    for (let fill = 0; fill < fills; fill += 1) {
      context.progress(`decode, ${rowsText(rows)}: ${fill + 1} of ${fills}`)
      await measureFill(context, bench, { rows, variants: steps(rows) }, samples)
    }
    figures.set(rows, figuresOf(rows, steps(rows), samples))
  }
  const inOrder = [...figures].toSorted(([x], [y]) => x - y).flatMap(([, own]) => own)
  return [...inOrder, ...maxRankFigures({ maxRank, large: atLarge, small: atSmall })]
}

interface Load {
  readonly rows: number
  readonly variants: readonly Variant[]
}

/** One filling of the sequences and 64 steps of them. */
async function measureFill(
  { signal }: BenchContext,
  { driver, random }: BenchEngine,
  load: Load,
  samples: Samples<Variant>,
): Promise<void> {
  await driver.fill(load.rows, MEAN_LENGTH - STEPS_PER_FILL / 2 - WARM_UP_STEPS, signal)
  const step = (variant: Variant) => driver.decode(variants[variant].slotOf)
  for (let warmUp = 0; warmUp < WARM_UP_STEPS; warmUp += 1) await step(load.variants[warmUp % load.variants.length] ?? 'none')
  await interleave(load.variants, { rounds: STEPS_PER_FILL / load.variants.length, random, signal }, step, samples)
  driver.releaseAll()
}

function figuresOf(rows: number, measuredVariants: readonly Variant[], samples: Samples<Variant>): Figure[] {
  const group = `Decode step, ${rowsText(rows)} (adapters of rank 16 on all seven modules)`
  return measuredVariants.flatMap((variant): Figure[] => {
    const id = `decode.rows${rows}.${variant}`
    const { label } = variants[variant]
    const time = measured({ id, group, label, unit: 'ms' }, summarise(samples.of(variant)))
    if (variant === 'none') return [time]
    const target = rows === TARGET_ROWS ? targets[variant] : undefined
    return [
      time,
      {
        id: `${id}.ratio`,
        group,
        label: `${label} ÷ no adapters`,
        unit: 'x',
        value: ratioOfMedians(samples.of(variant), samples.of('none')),
        ...(target === undefined ? {} : { target }),
      },
    ]
  })
}

function rowsText(rows: number): string {
  return rows === 1 ? '1 row' : `${rows} rows`
}

interface MaxRankSamples {
  readonly maxRank: number
  readonly large: Samples<Variant>
  readonly small: Samples<Variant>
}

/** The ratios again with slots of another size: the cost must follow the ranks that are there. */
function maxRankFigures({ maxRank, large, small }: MaxRankSamples): Figure[] {
  const group = `Decode step, ${TARGET_ROWS} rows: slots for rank ${maxRank} against slots for rank ${SMALL_MAX_RANK}`
  return (['one', 'different'] as const).flatMap((variant): Figure[] => {
    const id = `decode.rows${TARGET_ROWS}.${variant}`
    const { label } = variants[variant]
    const ratio = (samples: Samples<Variant>) => ratioOfMedians(samples.of(variant), samples.of('none'))
    return [
      {
        id: `${id}.ratio-small-slots`,
        group,
        label: `${label} ÷ no adapters, slots for rank ${SMALL_MAX_RANK}`,
        unit: 'x',
        value: ratio(small),
      },
      {
        id: `${id}.ratio-by-slots`,
        group,
        label: `${label}: the ratio at ${maxRank} ÷ that at ${SMALL_MAX_RANK}`,
        unit: 'x',
        value: ratio(large) / ratio(small),
        target: { at: 'most', value: NOISE },
      },
    ]
  })
}
