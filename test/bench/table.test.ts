import { expect, test } from 'vitest'
import { type Figure, verdictOf } from '../../bench/shared/figure.ts'
import { formatTarget, formatValue, textTable } from '../../bench/shared/table.ts'

const ratio: Figure = { id: 'a.ratio', group: 'Steps', label: 'with ÷ without', unit: 'x', value: 1.8 }

test.each([
  { target: { at: 'most', value: 1.8 } as const, verdict: 'met' },
  { target: { at: 'most', value: 1.79 } as const, verdict: 'MISSED' },
  { target: { at: 'least', value: 1.8 } as const, verdict: 'met' },
  { target: { at: 'least', value: 1.81 } as const, verdict: 'MISSED' },
])('calls 1.8 at $target.at $target.value $verdict', ({ target, verdict }) => {
  expect(verdictOf({ ...ratio, target })).toBe(verdict)
})

test('gives no verdict where nothing was promised', () => {
  expect(verdictOf(ratio)).toBe('')
})

test('writes values with their unit and as many digits as mean something', () => {
  expect(formatValue(0.1234, 'ms')).toBe('0.12 ms')
  expect(formatValue(12.345, 'ms')).toBe('12.3 ms')
  expect(formatValue(1523.4, 'tokens/s')).toBe('1,523 tokens/s')
  expect(formatValue(1234567.8, 'MB')).toBe('1,234,568 MB')
  expect(formatValue(1.2345, 'x')).toBe('1.23×')
  expect(formatTarget({ at: 'least', value: 1500 }, 'tokens/s')).toBe('≥ 1,500 tokens/s')
  expect(formatTarget({ at: 'most', value: 1.8 }, 'x')).toBe('≤ 1.8×')
})

test('prints groups one after another, columns aligned over all of them', () => {
  const time: Figure = {
    id: 'a.time',
    group: 'Steps',
    label: 'without',
    unit: 'ms',
    value: 20,
    spread: { min: 18.25, p90: 1024, samples: 9 },
  }
  const memory: Figure = {
    id: 'b.memory',
    group: 'Memory',
    label: 'all',
    unit: 'MB',
    value: 1700,
    target: { at: 'most', value: 1600 },
  }
  expect(textTable([time, memory, { ...ratio, target: { at: 'most', value: 2 } }])).toBe(
    [
      'Steps',
      '                  median      min       p90      target',
      'without          20.0 ms  18.3 ms  1,024 ms',
      'with ÷ without     1.80×                           ≤ 2×  met',
      '',
      'Memory',
      '                  median      min       p90      target',
      'all             1,700 MB                     ≤ 1,600 MB  MISSED',
      '',
    ].join('\n'),
  )
})
