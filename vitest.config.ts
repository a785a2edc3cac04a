import { configDefaults, defineConfig } from 'vitest/config'

/** What starts whole servers, and takes both cores of a small machine for itself. */
const whole = ['test/{e2e,conformance,fault}/**/*.test.ts']

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
          exclude: [...configDefaults.exclude, ...whole],
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
    ],
  },
})
