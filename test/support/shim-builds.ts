/** Programs of CUDA sources compiled for the execution shim (kernels/emulator), made once for each state of their sources. */
import { execFile, execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises'
import path from 'node:path'
import { repositoryRoot } from './repository.ts'

/** `address` and `race` are watched by AddressSanitizer and ThreadSanitizer; see kernels/emulator/compile.sh. */
export type ShimBuild = 'plain' | 'ucontext' | 'address' | 'race'

/** What one run of a program did. `output` is both of its streams. */
export interface ShimRun {
  readonly exitCode: number
  readonly output: string
}

const folder = path.join(repositoryRoot, 'kernels/build/shim')
const script = path.join(repositoryRoot, 'kernels/emulator/compile.sh')
const COMPILE_MS = 280_000
const RUN_MS = 280_000

/**
 * Compiles for the shim, or finds what was compiled from the same sources, flags and compiler before.
 * @param sources paths from the project's root; what lies beside them and under kernels/emulator is looked at for changes
 * @returns the program's path
 * @throws Error with the compiler's words
 * @example const program = await shimProgram('plain', 'test/kernels/emulator/planted.cu')
 */
export async function shimProgram(build: ShimBuild, ...sources: readonly string[]): Promise<string> {
  const core = await made(build, 'core', [], {})
  return made(build, 'program', sources, { EMULATOR_CORE: core })
}

/** The same as a shared library, without checkers. @returns its path */
export async function shimLibrary(...sources: readonly string[]): Promise<string> {
  return made('plain', 'library', sources, { EMULATOR_CORE: await made('plain', 'core', [], {}) })
}

async function made(
  build: ShimBuild,
  kind: 'core' | 'program' | 'library',
  sources: readonly string[],
  environment: Readonly<Record<string, string>>,
): Promise<string> {
  const file = path.join(folder, `${path.parse(sources[0] ?? 'shim').name}-${kind}-${build}-${await digestOf(build, sources)}`)
  if (existsSync(file)) return file
  await mkdir(folder, { recursive: true })
  const work = await mkdtemp(path.join(folder, 'new-'))
  try {
    const output = path.join(work, 'output')
    const result = await run(script, [build, kind, output, ...sources], environment, COMPILE_MS)
    if (result.exitCode !== 0)
      throw new Error(`${sources.join(', ')} cannot be compiled for the shim (${build}):\n${result.output}`)
    // Test files run at once: whoever comes second replaces a file with its like.
    await rename(output, file)
  } finally {
    await rm(work, { recursive: true, force: true })
  }
  return file
}

/**
 * @param environment e.g. `{ EMULATOR_ORDER: 'reverse' }`
 * @example const { exitCode, output } = await runOnShim(program, ['read-after-write'])
 */
export function runOnShim(
  program: string,
  words: readonly string[] = [],
  environment: Readonly<Record<string, string>> = {},
): Promise<ShimRun> {
  // Programs here leave their memory to the end of the process.
  return run(program, words, { ASAN_OPTIONS: 'detect_leaks=0', TSAN_OPTIONS: 'halt_on_error=1', ...environment }, RUN_MS)
}

async function digestOf(build: ShimBuild, sources: readonly string[]): Promise<string> {
  const digest = createHash('sha256').update(`${build}\n${execFileSync(script, ['version'])}`)
  const folders = new Set(['kernels', 'kernels/emulator', ...sources.map((source) => path.dirname(source))])
  const inFolders = [...folders].flatMap((one) => readdirSync(path.join(repositoryRoot, one)).map((name) => `${one}/${name}`))
  for (const file of inFolders.filter((name) => /\.(?:h|cc|cu|cuh|sh)$/.test(name)).toSorted()) {
    digest.update(`${file}\n`).update(await readFile(path.join(repositoryRoot, file)))
  }
  return digest.digest('hex').slice(0, 16)
}

function run(
  file: string,
  words: readonly string[],
  environment: Readonly<Record<string, string>>,
  timeout: number,
): Promise<ShimRun> {
  return new Promise((resolve) => {
    execFile(
      file,
      words,
      { cwd: repositoryRoot, env: { ...process.env, ...environment }, timeout, maxBuffer: 64 << 20 },
      (error, stdout, stderr) => {
        // A program that a signal ended has no exit code: 128 and the like, as a shell would say it.
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 128
        const signal = error?.signal == null ? '' : `ended by ${error.signal}\n`
        resolve({ exitCode: code, output: `${stdout}${stderr}${signal}` })
      },
    )
  })
}
