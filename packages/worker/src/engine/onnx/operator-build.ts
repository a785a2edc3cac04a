/**
 * Compiles the host build of quiver::Lora (kernels/README.md) with the machine's own C++ compiler. The result is kept in the
 * cache under the digest of everything that went into it: sources, the compiler's version and the flags.
 */
import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { ServingError } from '@quiver/protocol'
import type { ProcessRunner } from '../../model/process-runner.ts'
import { builtFolder } from './built-folder.ts'
import { sealFolder } from './folder-seal.ts'

/** Asked for in this order; the first that answers is used. */
const compilers = ['g++', 'clang++', 'c++'] as const
/** Folders of `kernels/` that the host build consists of. */
const folders = ['operator', 'host'] as const
/** Of every file. */
export const commonFlags = ['-std=c++17', '-O3', '-fPIC', '-fvisibility=hidden', '-fno-exceptions', '-fno-rtti'] as const
const vnniFlags = ['-mavx512f', '-mavx512bw', '-mavx512vl', '-mavx512dq', '-mavx512vnni', '-mavx2', '-mfma'] as const
/** Files of one instruction set, by processor architecture. Whether it is there is asked when the library is used. */
const fileFlags: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  x64: {
    'avx512.cc': ['-mavx512f', '-mavx512bw', '-mavx512vl', '-mavx512dq', '-mavx2', '-mfma', '-mf16c'],
    'avx2.cc': ['-mavx2', '-mfma', '-mf16c'],
    'product_amx.cc': [...vnniFlags, '-mamx-tile', '-mamx-int8'],
    'product_avx512.cc': vnniFlags,
    'product_avx2.cc': ['-mavx2', '-mfma'],
    'product_avxvnni.cc': ['-mavx2', '-mfma', '-mavxvnni'],
  },
  arm64: { 'product_neondot.cc': ['-march=armv8.2-a+dotprod'] },
}
export const libraryName = 'libquiver_ops.so'

export interface OperatorBuild {
  /** The project's `kernels` folder. */
  readonly kernelsDir: string
  /** Folder under which builds are kept. */
  readonly cacheDir: string
  /** As in `process.arch`. */
  readonly arch: string
  /** Compilers that run at once. */
  readonly jobs: number
  /** Added to every compiler's call, e.g. `-fsanitize=address`. */
  readonly extraFlags?: readonly string[]
  readonly runProcess: ProcessRunner
  readonly signal: AbortSignal
  /** Called when there is something to compile. */
  onCompile(done: number, total: number): void
}

/**
 * @returns the path of the library
 * @throws ServingError `not_found` when there is no compiler, `internal` when it refuses the sources; the message is one line
 */
export async function buildOperator(build: OperatorBuild): Promise<string> {
  const compiler = await findCompiler(build)
  const sources = await readSources(build.kernelsDir)
  const flags = [...commonFlags, ...(build.extraFlags ?? [])]
  const digest = createHash('sha256').update(
    JSON.stringify([compiler, flags, fileFlags[build.arch] ?? {}, build.arch, sources.map(({ name, text }) => [name, text])]),
  )
  const folder = await builtFolder({
    cacheDir: build.cacheDir,
    name: digest.digest('hex').slice(0, 32),
    // Another checkout of another version may be using it, and it is small.
    isOutdated: () => false,
    build: (building) => compile(building, { build, command: compiler.command, flags, sources }),
  })
  return join(folder, libraryName)
}

interface Compiler {
  readonly command: string
  /** All that `--version` says. */
  readonly version: string
}

async function findCompiler({ runProcess, signal }: OperatorBuild): Promise<Compiler> {
  for (const command of compilers) {
    try {
      const { exitCode, output } = await runProcess({ command, args: ['--version'], env: { LC_ALL: 'C' }, signal })
      if (exitCode === 0) return { command, version: output }
    } catch (error) {
      if (signal.aborted) throw error
      // Not installed: the next one may be.
    }
  }
  throw new ServingError('not_found', `there is no C++ compiler: none of ${compilers.join(', ')} was found`)
}

interface Source {
  /** Path below `kernels`. */
  readonly name: string
  readonly path: string
  readonly text: string
}

async function readSources(kernelsDir: string): Promise<Source[]> {
  try {
    const lists = folders.map(async (folder) => {
      const names = (await readdir(join(kernelsDir, folder))).filter((name) => /\.(h|cc)$/.test(name)).sort()
      return await Promise.all(
        names.map(async (name) => {
          const path = join(kernelsDir, folder, name)
          return { name: `${folder}/${name}`, path, text: await readFile(path, 'utf8') }
        }),
      )
    })
    return (await Promise.all(lists)).flat()
  } catch (cause) {
    throw new ServingError('not_found', `the operator's sources are not in ${kernelsDir}`, {}, { cause })
  }
}

interface Compilation {
  readonly build: OperatorBuild
  readonly command: string
  readonly flags: readonly string[]
  readonly sources: readonly Source[]
}

/** Compiles every file, the longest first, and links them. The first that fails ends the others. */
async function compile(folder: string, { build, command, flags, sources }: Compilation): Promise<void> {
  const units = sources
    .filter(({ name }) => name.endsWith('.cc'))
    .toSorted((left, right) => flagsOf(right.name, build.arch).length - flagsOf(left.name, build.arch).length)
  const total = units.length + 1
  const failed = new AbortController()
  const signal = AbortSignal.any([build.signal, failed.signal])
  const objects = units.map(({ name }) => join(folder, `${name.replaceAll('/', '-')}.o`))
  let next = 0
  let done = 0
  build.onCompile(done, total)
  const work = async (): Promise<void> => {
    for (let unit = units[next]; unit !== undefined; unit = units[next]) {
      const object = objects[next] as string
      next += 1
      const args = [...flags, ...flagsOf(unit.name, build.arch), '-c', unit.path, '-o', object]
      await run({ ...build, signal }, command, args, unit.name)
      done += 1
      build.onCompile(done, total)
    }
  }
  const workers = Array.from({ length: Math.max(1, build.jobs) }, work)
  try {
    await Promise.all(workers)
  } catch (error) {
    failed.abort()
    // Until the last of them is gone, something may still be written into the folder.
    await Promise.allSettled(workers)
    throw error
  }
  const library = join(folder, libraryName)
  await run(build, command, [...flags, '-shared', '-o', library, ...objects, '-lpthread'], libraryName)
  build.onCompile(total, total)
  await sealFolder(folder, [libraryName])
}

/** Those of one file more, by its path. @param arch as in `process.arch` */
export function flagsOf(name: string, arch: string): readonly string[] {
  return fileFlags[arch]?.[basename(name)] ?? []
}

async function run(
  { runProcess, signal }: Pick<OperatorBuild, 'runProcess' | 'signal'>,
  command: string,
  args: readonly string[],
  what: string,
): Promise<void> {
  const { exitCode, output } = await runProcess({ command, args, env: { LC_ALL: 'C' }, signal })
  if (exitCode === 0) return
  const lines = output.split('\n').filter((line) => line.trim() !== '')
  const reason = lines.find((line) => /error/i.test(line)) ?? lines.at(-1) ?? `it ended with exit code ${exitCode}`
  throw new ServingError('internal', `${command} could not make ${what}: ${reason.trim()}`)
}
