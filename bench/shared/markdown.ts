/** docs/benchmarks.md: a pure function of the reference results and the notes written by hand. */
import type { BenchResult } from './result.ts'
import { byGroup, rowOf } from './table.ts'

export interface BenchPage {
  readonly title: string
  readonly description: string
  readonly result: BenchResult
  /** What somebody has to say about the figures, above all why a target is missed. */
  readonly notes: string
  /** In docs/plots. */
  readonly pictures: readonly { readonly title: string; readonly file: string }[]
}

const INTRODUCTION = `# Benchmarks

<!-- Written by \`npm run bench -- report\` from bench/results/reference and bench/notes. Change those, not this file. -->

Every figure below is from one run on one machine, which is named with it; run \`npm run bench -- <name>\` to get your own.
\`--quick\` takes fewer measurements, \`--only <part>\` some of them, \`--seed\` other random weights and orders; \`--keep\` puts the
result in place of the one shown here. A target that is missed says MISSED, and the notes say what holds it back.
`

/** @param gpu what is to be said of GPUs where the bench of them has no result */
export function benchmarksPage(pages: readonly BenchPage[], gpu: string | undefined): string {
  const promised = gpu === undefined ? [] : [['## On a GPU', '', gpu.trim(), ''].join('\n')]
  return [INTRODUCTION, ...pages.map(pageOf), ...promised].join('\n')
}

function pageOf({ title, description, result, notes, pictures }: BenchPage): string {
  const tables = byGroup(result.figures).map(([group, figures]) => {
    const rows = figures.map((figure) => `| ${[...rowOf(figure), `\`${figure.id}\``].join(' | ')} |`)
    const head = ['| | median | min | p90 | target | | id |', '| --- | ---: | ---: | ---: | ---: | --- | --- |']
    return [`### ${group}`, '', ...head, ...rows, ''].join('\n')
  })
  return [
    `## ${title} (\`${result.bench}\`)`,
    '',
    description,
    '',
    ...circumstances(result),
    ...pictures.flatMap(({ title: what, file }) => [`![${what}](plots/${file})`, '']),
    ...tables,
    '### Notes',
    '',
    notes.trim(),
    '',
  ].join('\n')
}

function circumstances({ machine, versions, ...result }: BenchResult): string[] {
  const { model, dtype, threads, seed, commit, startedAt, durationSeconds, quick } = result
  const versionText = Object.entries(versions).map(([name, version]) => `${name} ${version}`)
  const steal = machine.stealPercent === undefined ? '' : `, ${machine.stealPercent} % of the time given to other guests`
  return [
    `- **Machine** ${machine.cpu}, ${machine.processors} processors, ${Math.round(machine.memoryBytes / 1e9)} GB, ${machine.system} ${machine.kernel}`,
    `- **Instructions** ${machine.flags || 'unknown'}`,
    `- **Versions** ${versionText.join(', ')}; commit ${commit}`,
    `- **Run** ${model} in ${dtype}, ${threads} threads, seed ${seed}, ${startedAt.slice(0, 10)}, ${Math.round(durationSeconds)} s; load average before ${machine.loadAverage}${steal}`,
    ...(quick ? ['- **Quick**: fewer measurements than a full run, good for a first look only'] : []),
    '',
  ]
}
