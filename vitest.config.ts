import { configDefaults, defineConfig } from 'vitest/config'

/** What starts whole servers, and takes both cores of a small machine for itself. */
const whole = ['test/{e2e,conformance,fault}/**/*.test.ts']
/** What compiles and emulates CUDA kernels, and takes both cores as well. */
const kernels = ['test/kernels/{cuda,emulator}/**/*.test.ts']
/** What is held against the real vLLM, which takes gigabytes to install; not part of `npm test`. */
const vllm = ['test/vllm/**/*.test.ts']
/** What first has to build its servers for minutes; not part of `npm test`. */
const slow = ['test/slow/**/*.test.ts']

export default defineConfig({
  test: {
    reporters: ['default', './test/support/summary-reporter.ts'],
    globalSetup: './test/support/shared-services.ts',
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: [...configDefaults.exclude, ...whole, ...kernels, ...slow, ...vllm],
          testTimeout: 60_000,
          hookTimeout: 120_000,
          // Two cores: a test file that runs an engine uses both.
          maxWorkers: 2,
        },
      },
      {
        extends: true,
        test: {
          name: 'whole',
          include: whole,
          testTimeout: 120_000,
          // A first start on a machine downloads and converts the default model.
          hookTimeout: 300_000,
          // After the others, one file after another: two servers at once would wait for each other's steps.
          sequence: { groupOrder: 1 },
          fileParallelism: false,
        },
      },
      {
        extends: true,
        test: {
          name: 'kernels',
          include: kernels,
          testTimeout: 120_000,
          // A first run on a machine installs a compiler and builds everything.
          hookTimeout: 420_000,
          sequence: { groupOrder: 2 },
          maxWorkers: 2,
        },
      },
      {
        extends: true,
        test: { name: 'slow', include: slow, testTimeout: 120_000, hookTimeout: 1_500_000, fileParallelism: false },
      },
      {
        extends: true,
        test: { name: 'vllm', include: vllm, testTimeout: 300_000, hookTimeout: 900_000, fileParallelism: false },
      },
    ],
  },
})
