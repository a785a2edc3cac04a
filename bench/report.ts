import { mkdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import type { Bench, Chart } from './bench.ts'
import { barChart } from './shared/bar-chart.ts'
import { benchmarksPage } from './shared/markdown.ts'
import type { BenchResult } from './shared/result.ts'
import { ResultFiles } from './shared/result-files.ts'

export interface ReportPaths {
  /** bench/results */
  readonly results: string
  /** bench/notes: one Markdown file per bench, and one of what is promised of GPUs. */
  readonly notes: string
  /** docs/benchmarks.md */
  readonly page: string
  /** docs/plots */
  readonly plots: string
}

export interface Report {
  /** The text of docs/benchmarks.md as it should be. */
  readonly page: string
  /** By the name of its file in docs/plots. */
  readonly plots: ReadonlyMap<string, string>
}

export async function renderReport(benches: Iterable<Bench>, paths: ReportPaths): Promise<Report> {
  const results = await new ResultFiles(paths.results).readReferences()
  const pages = []
  const plots = new Map<string, string>()
  for (const { name, title, description, charts = [] } of benches) {
    const result = results.get(name)
    if (result === undefined) continue
    const pictures = charts.map((chart) => ({ title: chart.title, file: `${chart.name}.svg`, svg: pictureOf(chart, result) }))
    for (const { file, svg } of pictures) plots.set(file, svg)
    const notes = await readFile(path.join(paths.notes, `${name}.md`), 'utf8')
    pages.push({ title, description, result, notes, pictures })
  }
  return {
    page: benchmarksPage(pages, results.has('gpu') ? undefined : await readFile(path.join(paths.notes, 'gpu.md'), 'utf8')),
    plots,
  }
}

export async function writeReport(benches: Iterable<Bench>, paths: ReportPaths): Promise<void> {
  const { page, plots } = await renderReport(benches, paths)
  await writeFile(paths.page, page)
  if (plots.size > 0) await mkdir(paths.plots, { recursive: true })
  for (const [file, svg] of plots) await writeFile(path.join(paths.plots, file), svg)
}

function pictureOf({ title, ids, ours }: Chart, { figures }: BenchResult): string {
  const shown = figures.filter(({ id }) => id.startsWith(ids))
  // A version is for the table.
  const bars = shown.map(({ id, label, value }) => ({
    label: label.replace(/, [^,]*$/, ''),
    value,
    isOurs: id === `${ids}${ours}`,
  }))
  return barChart({ title, unit: shown[0]?.unit ?? 'x', bars })
}
