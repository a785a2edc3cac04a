import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import type { Bench } from './bench.ts'
import { benchmarksPage } from './shared/markdown.ts'
import { ResultFiles } from './shared/result-files.ts'

export interface ReportPaths {
  /** bench/results */
  readonly results: string
  /** bench/notes: one Markdown file per bench, and one of what is promised of GPUs. */
  readonly notes: string
  /** docs/benchmarks.md */
  readonly page: string
}

/** The text of docs/benchmarks.md as it should be. */
export async function renderReport(benches: Iterable<Bench>, paths: ReportPaths): Promise<string> {
  const results = await new ResultFiles(paths.results).readReferences()
  const pages = []
  for (const { name, title, description } of benches) {
    const result = results.get(name)
    if (result === undefined) continue
    pages.push({ title, description, result, notes: await readFile(path.join(paths.notes, `${name}.md`), 'utf8') })
  }
  return benchmarksPage(pages, await readFile(path.join(paths.notes, 'gpu.md'), 'utf8'))
}

export async function writeReport(benches: Iterable<Bench>, paths: ReportPaths): Promise<void> {
  await writeFile(paths.page, await renderReport(benches, paths))
}
