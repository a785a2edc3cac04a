import { expect, test } from 'vitest'
import { barChart } from '../../bench/shared/bar-chart.ts'

const widths = (svg: string) => [...svg.matchAll(/<rect x="\d+" y="\d+" width="([\d.]+)"/g)].map(([, width]) => Number(width))

test('bars are to scale from zero, and the one that stands out is of another colour', () => {
  const svg = barChart({
    title: 'Speed',
    unit: 'tokens/s',
    bars: [
      { label: 'ours', value: 400, isOurs: true },
      { label: 'theirs', value: 100, isOurs: false },
    ],
  })
  const [ours = 0, theirs = 0] = widths(svg)
  expect(ours / theirs).toBeCloseTo(4, 2)
  expect(svg.match(/fill="#0b6e4f"/g)).toHaveLength(1)
  expect(svg).toContain('>400.0 tokens/s</text>')
})

test('a label may hold what means something in XML', () => {
  const svg = barChart({ title: 'a < b & c', unit: 'ms', bars: [{ label: '<x>', value: 1, isOurs: false }] })
  expect(svg).toContain('>a &lt; b &amp; c</text>')
  expect(svg).toContain('>&lt;x&gt;</text>')
})
