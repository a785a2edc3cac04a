/** What `npm run bench` does, apart from the process around it. */
import { availableParallelism } from 'node:os'
import path from 'node:path'
import { readConfig } from '../packages/cli/src/config.ts'
import { type Command, parseCommand } from './arguments.ts'
import type { Bench } from './bench.ts'
import { benches } from './benches.ts'
import { type ReportPaths, writeReport } from './report.ts'
import type { CleanUp } from './shared/clean-up.ts'
import { verdictOf } from './shared/figure.ts'
import { describeMachine } from './shared/machine.ts'
import type { BenchResult } from './shared/result.ts'
import { ResultFiles } from './shared/result-files.ts'
import { textTable } from './shared/table.ts'
import { readCommit, readVersions } from './shared/versions.ts'

export interface ProgramDeps {
  /** The repository. */
  readonly root: string
  readonly env: Readonly<Record<string, string | undefined>>
  readonly home: string
  readonly cwd: string
  readonly now: () => Date
  readonly cleanUp: CleanUp
  readonly signal: AbortSignal
  readonly write: (text: string) => void
  readonly progress: (line: string) => void
}

/** Of our environment only what says where things are, and how many threads there may be: all else would change the figures. */
const environmentNames = ['QUIVER_CACHE', 'QUIVER_PYTHON', 'QUIVER_THREADS', 'HF_ENDPOINT', 'HF_TOKEN', 'HF_HOME']

/** @throws ServingError saying what is not understood or what failed */
export async function runBenchProgram(args: readonly string[], deps: ProgramDeps): Promise<void> {
  const command = parseCommand(args, new Map([...benches].map(([name, { parts }]) => [name, parts])))
  const paths = reportPaths(deps.root)
  switch (command.kind) {
    case 'help':
      deps.write(helpText())
      return
    case 'report':
      await writeReport(benches.values(), paths)
      deps.write(`${path.relative(deps.cwd, paths.page)} is written\n`)
      return
    case 'run': {
      const bench = benches.get(command.bench)
      if (bench !== undefined) await runBench(bench, command, deps)
    }
  }
}

export function reportPaths(root: string): ReportPaths {
  return {
    results: path.join(root, 'bench/results'),
    notes: path.join(root, 'bench/notes'),
    page: path.join(root, 'docs/benchmarks.md'),
    plots: path.join(root, 'docs/plots'),
  }
}

async function runBench(bench: Bench, command: Extract<Command, { kind: 'run' }>, deps: ProgramDeps): Promise<void> {
  const { only, seed, quick } = command
  const missing = bench.missing?.()
  if (missing !== undefined) {
    deps.write(`${bench.name}: nothing was measured: ${missing}\n`)
    return
  }
  const { env, cwd, home, root, cleanUp, signal, progress } = deps
  const given = Object.fromEntries(environmentNames.map((name) => [name, env[name]]))
  const { config } = readConfig(
    { model: command.model, dtype: command.dtype },
    { env: given, cwd, home, processors: availableParallelism() },
  )
  const machine = await describeMachine()
  const startedAtMs = performance.now()
  const startedAt = deps.now().toISOString()
  const figures = await bench.run({ config, env, seed, quick, only, cleanUp, signal, progress })
  const result: BenchResult = {
    format: 1,
    bench: bench.name,
    startedAt,
    durationSeconds: Math.round((performance.now() - startedAtMs) / 1000),
    commit: await readCommit(root),
    seed,
    quick,
    ...(only.length === 0 ? {} : { only: only.join(',') }),
    model: config.model,
    dtype: config.dtype,
    threads: config.threads,
    machine: await machine.finish(),
    versions: readVersions(),
    figures: [...figures],
  }
  await cleanUp.run()
  const paths = reportPaths(root)
  const files = new ResultFiles(paths.results)
  const written = [await files.write(result)]
  if (command.keep) {
    written.push(await files.writeReference(result), paths.page)
    await writeReport(benches.values(), paths)
  }
  deps.write(
    resultText(
      result,
      written.map((file) => path.relative(cwd, file)),
    ),
  )
}

function resultText(result: BenchResult, files: readonly string[]): string {
  const { bench, model, dtype, threads, seed, commit, machine, figures, durationSeconds } = result
  const missed = figures.filter((figure) => verdictOf(figure) === 'MISSED').length
  const promised = figures.filter(({ target }) => target !== undefined).length
  return [
    '',
    `${bench}: ${model} in ${dtype}, ${threads} threads, seed ${seed}, commit ${commit}, ${durationSeconds} s`,
    `${machine.cpu}, ${machine.processors} processors; load average before ${machine.loadAverage}`,
    '',
    textTable(figures),
    `${promised - missed} of ${promised} targets met${missed === 0 ? '' : `, ${missed} MISSED`}`,
    ...files,
    '',
  ].join('\n')
}

function helpText(): string {
  const names = [...benches.values()].map(({ name, title, parts }) => `  ${name.padEnd(10)} ${title}; parts: ${parts.join(', ')}`)
  return [
    'npm run bench -- <name> [--model <model>] [--dtype <type>] [--seed <number>] [--quick] [--only <part,…>] [--keep]',
    ...names,
    `  ${'report'.padEnd(10)} writes docs/benchmarks.md from the results that were kept`,
    '',
  ].join('\n')
}
