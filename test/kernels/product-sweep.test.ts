/** quiver::Product8 against sums in double, by every instruction set of this processor, with and without address checkers. */
import { execFile, spawnSync } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { builtOperator, NEEDS_COMPILER } from '../support/operator-under-test.ts'
import { PRODUCT_TOLERANCE } from '../support/product-sweep.ts'
import { randomSeed } from '../support/random-seed.ts'

const resultsSchema = z.array(z.object({ set: z.string(), calls: z.int(), worst: z.number(), failures: z.array(z.string()) }))
const program = path.join(import.meta.dirname, '../support/product-sweep.ts')
/** -O1: the compiler takes four times as long for checked code at -O3. */
const checkers = ['-O1', '-fsanitize=address,undefined', '-fno-sanitize-recover=undefined', '-g1']
/** Busy machines take their time; nothing here measures any. */
const TIMEOUT_MS = 300_000

const seed = randomSeed('quiver::Product8')
const library = await builtOperator()

/** @throws Error with what the process wrote when it ends badly, such as a checker's report */
async function runSweep(of: string, mostRows: number, env: Readonly<Record<string, string>> = {}) {
  const { stdout } = await promisify(execFile)(process.execPath, [program, of, String(seed), String(mostRows)], {
    env: { ...process.env, ...env },
  })
  return resultsSchema.parse(JSON.parse(stdout))
}

/** Where the checkers' own libraries are; they must be there before the process's first allocation. */
function checkerLibraries(): string {
  return ['libasan.so', 'libubsan.so']
    .map((name) => spawnSync('g++', [`-print-file-name=${name}`], { encoding: 'utf8' }).stdout?.trim() ?? '')
    .filter((file) => path.isAbsolute(file))
    .join(':')
}

test.runIf(library === undefined)(`quiver::Product8: ${NEEDS_COMPILER}`, ({ skip }) => skip())

describe.runIf(library !== undefined)('quiver::Product8 over shapes and rows', () => {
  test('answers as sums in double do, and the same to the bit by every instruction set and alone', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const results = await runSweep(library ?? '', 300)
    expect(results.map(({ set }) => set)).toContain('scalar')
    for (const { set, calls, worst, failures } of results) {
      expect(failures, set).toEqual([])
      expect(calls).toBeGreaterThan(60)
      expect(worst).toBeLessThanOrEqual(PRODUCT_TOLERANCE)
    }
  })

  const preload = checkerLibraries()
  test.runIf(preload === '')('under address checkers: g++ has none on this machine', ({ skip }) => skip())
  test.runIf(preload !== '')('touches no memory but its own', { timeout: TIMEOUT_MS }, async () => {
    const checked = await builtOperator(checkers)
    // What Node leaves behind at its end is none of ours.
    const results = await runSweep(checked ?? '', 17, { LD_PRELOAD: preload, ASAN_OPTIONS: 'detect_leaks=0' })
    expect(results.flatMap(({ failures }) => failures)).toEqual([])
    expect(results.length).toBeGreaterThan(0)
  })
})
