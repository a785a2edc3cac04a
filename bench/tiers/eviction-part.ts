/** What the tiers' policy loads against least recently used, by the simulation that the tests use. Counts: no machine changes them. */
import { inRam, inSlots, leastRecentlyUsed, type Outcome, PLACES, traffic } from '../../test/support/eviction-simulation.ts'
import type { BenchContext } from '../bench.ts'
import type { Figure } from '../shared/figure.ts'

const SCAN_EVERY = 60
const kinds = [
  { id: 'scans', label: 'with scans', every: SCAN_EVERY },
  { id: 'zipf', label: 'without scans', every: Number.POSITIVE_INFINITY },
] as const
const policies = [
  { id: 'ram', label: 'RAM tier', run: inRam },
  { id: 'slots', label: 'slots', run: inSlots },
] as const

export async function measureEviction({ seed }: BenchContext): Promise<Figure[]> {
  const group = `Loads under Zipf traffic of 200 adapters with room for ${PLACES}, simulated`
  return kinds.flatMap(({ id, label, every }) => {
    const names = traffic(seed, every)
    const lru = leastRecentlyUsed(names)
    const figure = (name: string, text: string, value: number, unit: Figure['unit'] = 'loads'): Figure => ({
      id: `eviction.${id}.${name}`,
      group,
      label: `${label}, ${text}`,
      unit,
      value,
    })
    const ours = policies.flatMap(({ id: policy, label: where, run }) => {
      const { loads, regularLoads }: Outcome = run(names)
      return [
        figure(policy, `${where}: all loads`, loads),
        figure(`${policy}.regular`, `${where}: loads of what is not read through`, regularLoads),
        figure(`${policy}.ratio`, `${where} ÷ least recently used, of those`, regularLoads / lru.regularLoads, 'x'),
      ]
    })
    return [
      ...ours,
      figure('lru', 'least recently used: all loads', lru.loads),
      figure('lru.regular', 'least recently used: loads of what is not read through', lru.regularLoads),
    ]
  })
}
