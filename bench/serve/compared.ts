import { type Figure, measured, type Target } from '../shared/figure.ts'
import type { Samples } from '../shared/interleave.ts'
import { ratioOfMedians, summarise } from '../shared/statistics.ts'

/** Two kinds of the same measurement. */
export interface Comparison<K extends string> {
  /** Begins the figures' ids, before the kind. */
  readonly id: string
  readonly group: string
  readonly unit: Figure['unit']
  /** In the order of the page. */
  readonly labels: Readonly<Record<K, string>>
  readonly ratio: { readonly of: K; readonly to: K; readonly label: string; readonly target: Target }
}

/** Each kind by itself, then the ratio of their medians. */
export function comparedFigures<K extends string>(
  samples: Samples<K>,
  { id, group, unit, labels, ratio }: Comparison<K>,
): Figure[] {
  const kinds = Object.keys(labels) as K[]
  return [
    ...kinds.map((kind) => measured({ id: `${id}.${kind}`, group, label: labels[kind], unit }, summarise(samples.of(kind)))),
    {
      id: `${id}.ratio`,
      group,
      label: ratio.label,
      unit: 'x',
      value: ratioOfMedians(samples.of(ratio.of), samples.of(ratio.to)),
      target: ratio.target,
    },
  ]
}
