/**
 * The CUDA kernels on the execution shim against a plain computation in double (lora-check.cu): values, orders, races, addresses.
 * What the shim cannot show is said in kernels/README.md.
 */
import koffi from 'koffi'
import { describe, expect, test } from 'vitest'
import { loraCheckSources, loraChecks } from '../../support/lora-checks.ts'
import { randomSeed } from '../../support/random-seed.ts'
import { runOnShim, type ShimBuild, shimLibrary, shimProgram } from '../../support/shim-builds.ts'

const checkOf = async (build: ShimBuild, words: readonly string[], order: string) =>
  runOnShim(await shimProgram(build, ...loraCheckSources), words, { EMULATOR_ORDER: order })

describe('the kernels in any order of threads', () => {
  const seed = randomSeed('LoRA kernels on the shim')

  // dtype × rank (1, 5, 8, 16, 64, 128, mixed) × rows (0, 1, 17, 256) × mix (one, all different, skewed, with base rows)
  test.each(['forward', 'reverse', `shuffle:${seed}`])(
    'agree with a computation in double for every rank, row count and mix: %s',
    async (order) => {
      const { exitCode, output } = await checkOf('plain', ['sweep', 'full', String(seed)], order)
      expect(output).toMatch(/^224 cases, largest error [01]\.\d+ of what is allowed\nright\n$/)
      expect(exitCode).toBe(0)
    },
    300_000,
  )

  test.each(loraChecks)('%s: %s', async (name) => {
    for (const order of ['forward', 'reverse', `shuffle:${seed}`]) {
      expect(await checkOf('plain', [name], order), order).toEqual({ exitCode: 0, output: 'right\n' })
    }
  })
})

describe.each(['address', 'race'] as const)('the %s checker', (build) => {
  const seed = randomSeed(`LoRA kernels under the ${build} checker`)

  test('finds nothing in a sweep over small shapes', async () => {
    const { exitCode, output } = await checkOf(build, ['sweep', 'small', String(seed)], `shuffle:${seed}`)
    expect(output).toMatch(/^96 cases, largest error [01]\.\d+ of what is allowed\nright\n$/)
    expect(exitCode).toBe(0)
  }, 300_000)

  test.each(loraChecks)('finds nothing in %s', async (name) => {
    expect(await checkOf(build, [name], 'forward')).toEqual({ exitCode: 0, output: 'right\n' })
  })
})

test('the same sources are a library that Node loads', async () => {
  const library = koffi.load(await shimLibrary('kernels/cuda/device.cu', 'kernels/cuda/lora.cu'))
  const text = Buffer.alloc(256)
  expect(library.func('int quiver_cuda_describe(_Out_ char *text, size_t capacity)')(text, text.length)).toBe(0)
  expect(text.subarray(0, text.indexOf(0)).toString()).toBe('1 GPU, the first of compute capability 8.0')
  library.unload()
})
