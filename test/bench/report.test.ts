import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { expect, test } from 'vitest'
import { benches } from '../../bench/benches.ts'
import { reportPaths } from '../../bench/program.ts'
import { renderReport } from '../../bench/report.ts'
import { verdictOf } from '../../bench/shared/figure.ts'
import { benchmarksPage } from '../../bench/shared/markdown.ts'
import type { BenchResult } from '../../bench/shared/result.ts'
import { fileName, ResultFiles } from '../../bench/shared/result-files.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

const paths = reportPaths(path.join(import.meta.dirname, '../..'))

const result: BenchResult = {
  format: 1,
  bench: 'engine',
  startedAt: '2026-11-22T01:30:00.123Z',
  durationSeconds: 90,
  commit: '1a2b3c4d5e6f',
  seed: 7,
  quick: false,
  model: 'tiny',
  dtype: 'int8',
  threads: 2,
  machine: {
    cpu: 'A Processor',
    processors: 2,
    flags: 'avx2',
    memoryBytes: 8e9,
    system: 'linux x64',
    kernel: '6.1',
    loadAverage: 0.1,
    stealPercent: 0.5,
  },
  versions: { node: '24.0.0', onnxruntime: '1.30.0' },
  figures: [
    {
      id: 'step.time',
      group: 'Steps',
      label: 'a step',
      unit: 'ms',
      value: 4,
      spread: { min: 3, p90: 5, samples: 10 },
      target: { at: 'most', value: 3.5 },
    },
  ],
}

test('docs/benchmarks.md says what the kept results say: `npm run bench -- report` writes it', async () => {
  const { page, plots } = await renderReport(benches.values(), paths)
  expect(await readFile(paths.page, 'utf8')).toBe(page)
  for (const [file, svg] of plots) expect(await readFile(path.join(paths.plots, file), 'utf8'), file).toBe(svg)
})

test('every target that the kept results miss is explained in the notes', async () => {
  for (const [name, { figures }] of await new ResultFiles(paths.results).readReferences()) {
    const notes = await readFile(path.join(paths.notes, `${name}.md`), 'utf8')
    const missed = figures.filter((figure) => verdictOf(figure) === 'MISSED').map(({ id }) => id)
    expect(missed.filter((id) => !notes.includes(`\`${id}\``))).toEqual([])
  }
})

test('the kept results are of benches that exist, and no figure is told twice', async () => {
  for (const [name, { figures }] of await new ResultFiles(paths.results).readReferences()) {
    expect([...benches.keys()]).toContain(name)
    expect(new Set(figures.map(({ id }) => id)).size).toBe(figures.length)
  }
})

test('a page shows value, target and verdict with the machine, the seed and the notes', () => {
  const page = benchmarksPage(
    [
      {
        title: 'One engine',
        description: 'What it measures.',
        result,
        notes: 'Why `step.time` is slow.\n',
        pictures: [{ title: 'Steps', file: 'steps.svg' }],
      },
    ],
    'Not measured yet.\n',
  )
  expect(page).toContain('| a step | 4.00 ms | 3.00 ms | 5.00 ms | ≤ 3.5 ms | MISSED | `step.time` |')
  expect(page).toContain('A Processor, 2 processors, 8 GB, linux x64 6.1')
  expect(page).toContain('seed 7')
  expect(page).toContain('onnxruntime 1.30.0; commit 1a2b3c4d5e6f')
  expect(page).toContain('0.5 % of the time given to other guests')
  expect(page).toContain('Why `step.time` is slow.')
  expect(page).toContain('![Steps](plots/steps.svg)')
  expect(page).not.toContain('Quick')
  expect(page).toMatch(/\n## On a GPU\n\nNot measured yet\.\n$/)
  expect(
    benchmarksPage([{ title: '', description: '', result: { ...result, quick: true }, notes: '', pictures: [] }], ''),
  ).toContain('Quick')
})

test('a result is read back as it was written', async () => {
  const files = new ResultFiles(path.join(await temporaryFolder(), 'results'))
  expect(path.basename(await files.write(result))).toBe('engine-20261122T013000Z-1a2b3c4d5e6f.json')
  expect(await files.readReferences()).toEqual(new Map())
  await files.writeReference(result)
  expect(await files.readReferences()).toEqual(new Map([['engine', result]]))
})

test('the name of a result tells that it is not the whole', () => {
  expect(fileName({ ...result, quick: true, only: 'load' })).toBe('engine-20261122T013000Z-1a2b3c4d5e6f-quick-part.json')
})
