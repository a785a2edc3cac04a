/** Figures as people read them. */
import { type Figure, type Target, type Unit, verdictOf } from './figure.ts'

/** At most one number behind the point for large values, two for small ones, none for what is counted. */
export function formatValue(value: number, unit: Unit): string {
  if (unit === 'x') return `${value.toFixed(2)}×`
  if (unit === 'share') return value.toFixed(3)
  if (unit === 'nats') return `${value.toFixed(4)} ${unit}`
  if (unit === 'loads') return `${groupThousands(value.toFixed(0))} ${unit}`
  const digits = Math.abs(value) >= 1000 ? 0 : Math.abs(value) >= 10 ? 1 : 2
  return `${groupThousands(value.toFixed(digits))} ${unit}`
}

export function formatTarget(target: Target | undefined, unit: Unit): string {
  if (target === undefined) return ''
  const text =
    unit === 'share'
      ? String(target.value)
      : unit === 'x'
        ? `${target.value}×`
        : `${groupThousands(String(target.value))} ${unit}`
  return `${target.at === 'most' ? '≤' : '≥'} ${text}`
}

/** Figures in groups, in the order in which each group's first stands. */
export function byGroup(figures: readonly Figure[]): [string, readonly Figure[]][] {
  return [...Map.groupBy(figures, ({ group }) => group)]
}

const columns = ['', 'median', 'min', 'p90', 'target', ''] as const

export function rowOf(figure: Figure): string[] {
  const { label, value, unit, spread, target } = figure
  const bound = (bound: number | undefined) => (bound === undefined ? '' : formatValue(bound, unit))
  return [label, formatValue(value, unit), bound(spread?.min), bound(spread?.p90), formatTarget(target, unit), verdictOf(figure)]
}

/** The table for a terminal. */
export function textTable(figures: readonly Figure[]): string {
  const groups = byGroup(figures).map(([title, own]) => ({ title, rows: own.map(rowOf) }))
  const all = [columns, ...groups.flatMap(({ rows }) => rows)]
  const widths = columns.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)))
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) =>
        column === 0 || column === columns.length - 1 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
      )
      .join('  ')
      .trimEnd()
  return groups.map(({ title, rows }) => [title, line(columns), ...rows.map(line), ''].join('\n')).join('\n')
}

function groupThousands(number: string): string {
  return number.replace(/\B(?=(\d{3})+(?!\d)(\.|$))/g, ',')
}
