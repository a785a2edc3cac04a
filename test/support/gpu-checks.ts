import { loraChecks } from './lora-checks.ts'

/** What a run of lora-check did. */
export interface CheckRun {
  readonly exitCode: number
  readonly output: string
}

export interface GpuChecks {
  readonly seed: number
  /** Runs lora-check with these words. */
  run(words: readonly string[]): Promise<CheckRun>
  write(line: string): void
}

/** The sweep over every type, rank, row count and mix, then every named check. @returns how many of them failed */
export async function runGpuChecks({ seed, run, write }: GpuChecks): Promise<number> {
  const all = [
    { words: ['sweep', 'full', String(seed)], promise: 'agrees with a computation in double for every rank, row count and mix' },
    ...loraChecks.map(([name, promise]) => ({ words: [name], promise })),
  ]
  let failures = 0
  for (const { words, promise } of all) {
    const { exitCode, output } = await run(words)
    const isRight = exitCode === 0 && output.endsWith('right\n')
    if (!isRight) failures += 1
    write(`${isRight ? 'right' : 'WRONG'}  ${words.join(' ')}: ${promise}`)
    const told = output.trim().split('\n')
    for (const line of isRight ? told.slice(0, -1) : told) write(`       ${line}`)
  }
  return failures
}
