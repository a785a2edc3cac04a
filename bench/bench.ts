import type { Config } from '../packages/cli/src/option-schema.ts'
import type { CleanUp } from './shared/clean-up.ts'
import type { Figure } from './shared/figure.ts'

export type Environment = Readonly<Record<string, string | undefined>>

/** What a run of a bench is to do, and with what. */
export interface BenchContext {
  readonly seed: number
  /** Fewer repetitions. */
  readonly quick: boolean
  /** Names of parts to run; all of them where empty. */
  readonly only: readonly string[]
  /** As `quiver serve` would read it here, defaults but for what the command line and the cache's place say. */
  readonly config: Config
  /** This process's environment, for the processes that are started. */
  readonly env: Environment
  readonly cleanUp: CleanUp
  /** Aborted when somebody does not want to wait for the end. */
  readonly signal: AbortSignal
  /** One line about what is being done, for a person who waits. */
  progress(line: string): void
}

/** A picture of some of a bench's figures. */
export interface Chart {
  /** Its file is `docs/plots/<name>.svg`. */
  readonly name: string
  readonly title: string
  /** Figures whose ids begin so, each a bar. */
  readonly ids: string
  /** The end of the id of the bar that stands out. */
  readonly ours: string
}

/** One bench: `npm run bench -- <name>`. */
export interface Bench {
  readonly name: string
  /** Stands above its figures in docs/benchmarks.md. */
  readonly title: string
  /** One paragraph: what is measured, and how. */
  readonly description: string
  /** Can be run alone with --only. */
  readonly parts: readonly string[]
  /** Shown above its tables. */
  readonly charts?: readonly Chart[]
  /** What this machine lacks for it, or undefined: then nothing is measured, and that is said. Absent: nothing is needed. */
  missing?(): string | undefined
  run(context: BenchContext): Promise<readonly Figure[]>
}
