/** quiver::Lora against sums in double, by every instruction set of this processor, with and without address checkers. */
import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { checkedBuild, checkerLibraries } from '../support/checked-build.ts'
import { LORA_TOLERANCE } from '../support/lora-sweep.ts'
import { builtOperator, NEEDS_COMPILER } from '../support/operator-under-test.ts'
import { randomSeed } from '../support/random-seed.ts'

const resultsSchema = z.array(
  z.object({ set: z.string(), calls: z.int(), worst: z.number().nullable(), failures: z.array(z.string()) }),
)
const program = path.join(import.meta.dirname, '../support/lora-sweep.ts')
/** Busy machines take their time; nothing here measures any. */
const TIMEOUT_MS = 300_000

const seed = randomSeed('quiver::Lora')
const library = await builtOperator()

/** @throws Error with what the process wrote when it ends badly, such as a checker's report */
async function runSweep(of: string, mostRows: number, env: Readonly<Record<string, string>> = {}) {
  const { stdout } = await promisify(execFile)(process.execPath, [program, of, String(seed), String(mostRows)], {
    env: { ...process.env, ...env },
  })
  return resultsSchema.parse(JSON.parse(stdout))
}

test.runIf(library === undefined)(`quiver::Lora: ${NEEDS_COMPILER}`, ({ skip }) => skip())

describe.runIf(library !== undefined)('quiver::Lora over types, ranks, rows and mixes of adapters', () => {
  test('answers as sums in double do, by every instruction set', { timeout: TIMEOUT_MS }, async () => {
    const results = await runSweep(library ?? '', 256)
    expect(results.map(({ set }) => set)).toContain('scalar')
    if (process.arch === 'arm64') expect(results.map(({ set }) => set)).toContain('neon')
    for (const { set, calls, worst, failures } of results) {
      expect(failures, set).toEqual([])
      expect(calls).toBe(360)
      expect(worst).toBeLessThanOrEqual(LORA_TOLERANCE)
    }
  })

  const preload = checkerLibraries()
  test.runIf(preload === '')('under address checkers: g++ has none on this machine', ({ skip }) => skip())
  test.runIf(preload !== '')('touches no memory but its own', { timeout: TIMEOUT_MS }, async () => {
    // What Node leaves behind at its end is none of ours.
    const results = await runSweep(await checkedBuild(), 17, { LD_PRELOAD: preload, ASAN_OPTIONS: 'detect_leaks=0' })
    expect(results.map(({ set }) => set)).toContain('scalar')
    expect(results.flatMap(({ failures }) => failures)).toEqual([])
    expect(results.every(({ calls }) => calls === 276)).toBe(true)
  })
})
