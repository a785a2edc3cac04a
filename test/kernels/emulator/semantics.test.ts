/** What the execution shim computes, and the orders it runs threads in. */
import { beforeAll, describe, expect, test } from 'vitest'
import { runOnShim, shimProgram } from '../../support/shim-builds.ts'

const right = { exitCode: 0, output: 'right\n' }

describe.each(['plain', 'ucontext'] as const)('the %s build', (build) => {
  let program = ''
  beforeAll(async () => {
    program = await shimProgram(build, 'test/kernels/emulator/semantics.cu')
  })

  test.each([
    ['matrices', 'lays out ldmatrix and mma as the PTX ISA does, for half and bfloat16'],
    ['lanes', 'moves values between lanes as CUDA does'],
    ['numbers', 'rounds to half and bfloat16 to the nearest, ties to even'],
    ['launches', 'refuses launches that a GPU would refuse'],
    ['poison', 'fills fresh memory, and shared memory before each block, with NaNs'],
    ['graphs', 'captures launches, and fails what cannot be captured'],
  ])('%s: %s', async (name) => {
    expect(await runOnShim(program, [name])).toEqual(right)
    expect(await runOnShim(program, [name], { EMULATOR_ORDER: 'shuffle:5' })).toEqual(right)
  })

  test('a stack that overflows meets the page that guards it', async () => {
    const { exitCode, output } = await runOnShim(program, ['stack'])
    expect(exitCode).not.toBe(0)
    expect(output).toContain('SIGSEGV')
  })
})

describe('EMULATOR_ORDER', () => {
  const orderOf = async (order: string) => {
    const program = await shimProgram('plain', 'test/kernels/emulator/semantics.cu')
    const { output } = await runOnShim(program, ['order'], { EMULATOR_ORDER: order })
    return output.replace('right', '').trim().split(/\s+/).map(Number)
  }
  const all = Array.from({ length: 128 }, (_, at) => at)

  test('forward and reverse are what they say, for blocks, warps and lanes', async () => {
    expect(await orderOf('forward')).toEqual(all)
    expect(await orderOf('reverse')).toEqual(all.toReversed())
  })

  test('a seed always means the same order, another seed another one, and every thread runs', async () => {
    const one = await orderOf('shuffle:1')
    expect(await orderOf('shuffle:1')).toEqual(one)
    expect(await orderOf('shuffle:2')).not.toEqual(one)
    expect(one.toSorted((a, b) => a - b)).toEqual(all)
    expect(one).not.toEqual(all)
  })

  test('is refused where it is something else', async () => {
    const program = await shimProgram('plain', 'test/kernels/emulator/semantics.cu')
    const { exitCode, output } = await runOnShim(program, ['order'], { EMULATOR_ORDER: 'backwards' })
    expect([exitCode, output]).toEqual([
      86,
      'emulator: EMULATOR_ORDER is backwards; it must be forward, reverse or shuffle:SEED\n',
    ])
  })
})
