/** How the operator is compiled and found, with a compiler that writes down what it is asked. */
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { buildOperator, type OperatorBuild } from '../../../../packages/worker/src/engine/onnx/operator-build.ts'
import {
  findOperator,
  type OperatorDeps,
  type OperatorSearch,
  openOperator,
  operatorPackage,
} from '../../../../packages/worker/src/engine/onnx/operator-library.ts'
import type { ProcessRun, ProcessRunner } from '../../../../packages/worker/src/model/process-runner.ts'
import { kernelsFolder } from '../../../support/operator-under-test.ts'

let cacheDir: string
beforeEach(async () => {
  cacheDir = await mkdtemp(path.join(tmpdir(), 'quiver-operators-'))
})
afterEach(() => rm(cacheDir, { recursive: true, force: true }))

class FakeCompiler {
  readonly runs: ProcessRun[] = []
  installed = ['g++']
  version = 'g++ 12'
  /** File that it refuses. */
  refuses = ''

  get compiled(): string[] {
    return this.runs.flatMap(({ args }) => args.filter((arg) => arg.endsWith('.cc'))).map((file) => path.basename(file))
  }

  run: ProcessRunner = async (run) => {
    this.runs.push(run)
    if (!this.installed.includes(run.command)) throw Object.assign(new Error('spawn'), { code: 'ENOENT' })
    if (run.args[0] === '--version') return { exitCode: 0, output: this.version }
    if (this.refuses !== '' && run.args.some((arg) => path.basename(arg) === this.refuses)) {
      return { exitCode: 1, output: `In file included from somewhere\n${this.refuses}:7:3: error: expected ';'\n  7 | x\n` }
    }
    const output = run.args[run.args.indexOf('-o') + 1] as string
    await writeFile(output, run.args.join(' '))
    return { exitCode: 0, output: '' }
  }
}

function buildWith(compiler: FakeCompiler, change: Partial<OperatorBuild> = {}): Promise<string> {
  return buildOperator({
    kernelsDir: kernelsFolder,
    cacheDir,
    arch: 'x64',
    jobs: 2,
    runProcess: compiler.run,
    signal: new AbortController().signal,
    onCompile: () => {},
    ...change,
  })
}

describe('compiling the operator', () => {
  test('compiles every source once, each instruction set with its own flags, and links them', async () => {
    const compiler = new FakeCompiler()
    const library = await buildWith(compiler)
    const names = (await Promise.all(['operator', 'host'].map((folder) => readdir(path.join(kernelsFolder, folder))))).flat()
    expect(compiler.compiled.toSorted()).toEqual(names.filter((name) => name.endsWith('.cc')).toSorted())
    const flagsOf = (file: string) => compiler.runs.find(({ args }) => args.some((arg) => path.basename(arg) === file))?.args
    expect(flagsOf('avx512.cc')).toContain('-mavx512bw')
    expect(flagsOf('plan.cc')?.some((flag) => flag.startsWith('-mavx'))).toBe(false)
    expect(await readFile(library, 'utf8')).toContain('-shared')
  })

  test('compiles nothing the next time, and everything again for another compiler, other flags or a damaged file', async () => {
    const compiler = new FakeCompiler()
    const library = await buildWith(compiler)
    const all = compiler.compiled.length
    expect(await buildWith(compiler)).toBe(library)
    expect(compiler.compiled).toHaveLength(all)
    compiler.version = 'g++ 13'
    expect(await buildWith(compiler)).not.toBe(library)
    expect(await buildWith(compiler, { extraFlags: ['-g'] })).not.toBe(library)
    expect(compiler.compiled).toHaveLength(3 * all)
    compiler.version = 'g++ 12'
    await truncate(library, 3)
    expect(await buildWith(compiler)).toBe(library)
    expect(compiler.compiled).toHaveLength(4 * all)
  })

  test('two processes at once end with one library and nothing besides', async () => {
    const [one, two] = [new FakeCompiler(), new FakeCompiler()]
    const [first, second] = await Promise.all([buildWith(one), buildWith(two)])
    expect(first).toBe(second)
    expect(await readdir(cacheDir)).toHaveLength(1)
  })

  test('says in one line what the compiler did not like, and leaves nothing behind', async () => {
    const compiler = new FakeCompiler()
    compiler.refuses = 'plan.cc'
    await expect(buildWith(compiler)).rejects.toMatchObject({
      code: 'internal',
      message: "g++ could not make host/plan.cc: plan.cc:7:3: error: expected ';'",
    })
    expect(await readdir(cacheDir)).toEqual([])
  })

  test('takes clang++ where there is no g++, and says so where there is none of them', async () => {
    const compiler = new FakeCompiler()
    compiler.installed = ['clang++']
    await buildWith(compiler)
    expect(compiler.runs.at(-1)?.command).toBe('clang++')
    compiler.installed = []
    await expect(buildWith(compiler)).rejects.toMatchObject({
      code: 'not_found',
      message: 'there is no C++ compiler: none of g++, clang++, c++ was found',
    })
  })
})

describe('finding the operator', () => {
  const compiler = new FakeCompiler()
  const lines: string[] = []
  const deps: OperatorDeps = {
    runProcess: compiler.run,
    signal: new AbortController().signal,
    log: (level, message, context) => lines.push(`${level} ${message}: ${context?.['cause']}`),
    onProgress: () => {},
  }
  const search = (mode: OperatorSearch['mode']): OperatorSearch => ({
    mode,
    kernelsDir: kernelsFolder,
    cacheDir,
    // No package is ever made for this one.
    platform: 'aix',
    arch: 'ppc64',
    jobs: 1,
  })

  test('asks for nothing when standard operators are wanted', async () => {
    compiler.installed = []
    expect(await findOperator(search('standard'), deps)).toBeUndefined()
    expect(compiler.runs).toEqual([])
  })

  test('leaves it to standard operators where there is no compiler, and says so in one line', async () => {
    compiler.installed = []
    expect(await findOperator(search('auto'), deps)).toBeUndefined()
    expect(lines.splice(0)).toEqual([
      'warn adapters are applied by standard operators, which takes longer: there is no C++ compiler: none of g++, clang++, c++ was found',
    ])
  })

  test('refuses to start where it is insisted on', async () => {
    compiler.installed = []
    await expect(findOperator(search('operator'), deps)).rejects.toMatchObject({
      code: 'invalid_request',
      message: expect.stringMatching(/^the LoRA operator is not to be had: there is no C\+\+ compiler.*--lora auto$/),
    })
  })

  test('does not use what a compiler made but nobody can load', async () => {
    compiler.installed = ['g++']
    expect(await findOperator(search('auto'), deps)).toBeUndefined()
    expect(lines.splice(0).join()).toMatch(/libquiver_ops\.so cannot be loaded/)
    const folder = await mkdtemp(path.join(cacheDir, 'x'))
    expect(() => openOperator(path.join(folder, 'none.so'))).toThrow(/none\.so cannot be loaded/)
  })

  test('is called off with the start', async () => {
    compiler.installed = ['g++']
    const stop = new AbortController()
    stop.abort()
    const runProcess: ProcessRunner = () => Promise.reject(new Error('killed'))
    await expect(findOperator(search('auto'), { ...deps, runProcess, signal: stop.signal })).rejects.toMatchObject({
      code: 'client_closed',
    })
  })

  test('knows the package of each platform by its name', () => {
    expect(operatorPackage({ platform: 'linux', arch: 'x64' })).toBe('@quiver/ops-linux-x64')
  })
})
