/** `npm run bench -- gpu`, as far as a machine without a GPU can tell. */
import { expect, test } from 'vitest'
import { gpuBench } from '../../../bench/gpu/gpu-bench.ts'
import { kernelFigures, loraBenchSources, readTimes } from '../../../bench/gpu/kernels-part.ts'
import { verdictOf } from '../../../bench/shared/figure.ts'
import { runOnShim, shimProgram } from '../../support/shim-builds.ts'

test('the program that measures the kernels computes a call, and says what must move', async () => {
  const program = await shimProgram('plain', ...loraBenchSources)
  const { exitCode, output } = await runOnShim(program, ['64', '2', '8', '1'])
  expect(exitCode).toBe(0)
  // 2 adapters of rank 8 with 64 features in and out, x read, y read and written.
  expect(readTimes(output).decode.bytes).toBe(2 * 2 * 8 * 64 * 2 + 2 * 64 * 2 * 3)
}, 300_000)

test('the share of the bandwidth is of what a copy reaches, and has the promised target', () => {
  const figures = kernelFigures({ decode: { ms: 0.01, bytes: 24_000_000 }, copy: { ms: 1, bytes: 3_000_000_000 } })
  const share = figures.find(({ id }) => id === 'gpu.decode.share')
  expect(share).toMatchObject({ value: 0.8, target: { at: 'least', value: 0.8 } })
  expect(share && verdictOf(share)).toBe('met')
})

test('output that is not its own is refused', () => {
  expect(() => readTimes('decode fast 3\n')).toThrow('lora-bench wrote')
})

test('a machine without a GPU is said to have measured nothing', () => {
  const missing = gpuBench.missing?.()
  if (missing !== undefined) expect(missing).toMatch(/GPU|NVIDIA driver/)
})
