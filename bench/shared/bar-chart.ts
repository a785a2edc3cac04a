/** Bars as an SVG picture: a pure function, so that a test can say whether a kept picture is current. */

import type { Unit } from './figure.ts'
import { formatValue } from './table.ts'

export interface Bar {
  readonly label: string
  readonly value: number
  /** Stands out: what the chart is about. */
  readonly isOurs: boolean
}

export interface BarChart {
  readonly title: string
  readonly unit: Unit
  readonly bars: readonly Bar[]
}

const WIDTH = 840
const LABEL_WIDTH = 400
const VALUE_WIDTH = 110
const ROW_HEIGHT = 30
const BAR_HEIGHT = 20
const HEAD_HEIGHT = 44

/** Horizontal bars from zero, to scale, each with its value beside it; readable on light and on dark pages. */
export function barChart({ title, unit, bars }: BarChart): string {
  const most = Math.max(...bars.map(({ value }) => value))
  const scale = (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / most
  const height = HEAD_HEIGHT + bars.length * ROW_HEIGHT + 8
  const rows = bars.map(({ label, value, isOurs }, index) => {
    const top = HEAD_HEIGHT + index * ROW_HEIGHT
    const middle = top + BAR_HEIGHT / 2 + 5
    const width = Math.max(1, value * scale)
    return [
      `  <text x="${LABEL_WIDTH - 10}" y="${middle}" text-anchor="end"${isOurs ? ' font-weight="bold"' : ''}>${escaped(label)}</text>`,
      `  <rect x="${LABEL_WIDTH}" y="${top}" width="${width.toFixed(1)}" height="${BAR_HEIGHT}" fill="${isOurs ? '#0b6e4f' : '#9aa5b1'}"/>`,
      `  <text x="${(LABEL_WIDTH + width + 8).toFixed(1)}" y="${middle}">${escaped(formatValue(value, unit))}</text>`,
    ].join('\n')
  })
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="13" fill="#1f2933">`,
    `  <rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    `  <text x="12" y="26" font-size="15" font-weight="bold">${escaped(title)}</text>`,
    ...rows,
    '</svg>',
    '',
  ].join('\n')
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
