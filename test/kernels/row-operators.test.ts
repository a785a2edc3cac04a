/** quiver::AddNorm and quiver::Gate: what they answer by every instruction set, what they refuse, and what they keep apart. */
import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { checkedBuild, checkerLibraries } from '../support/checked-build.ts'
import type { BoundInput } from '../support/node-under-test.ts'
import { builtOperator, NEEDS_COMPILER } from '../support/operator-under-test.ts'
import { randomSeed } from '../support/random-seed.ts'
import { RowOperatorsUnderTest } from '../support/row-operators.ts'

const resultsSchema = z.array(z.object({ set: z.string(), calls: z.int(), failures: z.array(z.string()) }))
const program = path.join(import.meta.dirname, '../support/rows-sweep.ts')
/** Busy machines take their time; nothing here measures any. */
const TIMEOUT_MS = 300_000
const CALLS = 80

const seed = randomSeed('quiver::AddNorm and quiver::Gate')
const library = await builtOperator()

/** @throws Error with what the process wrote when it ends badly, such as a checker's report */
async function runSweep(of: string, env: Readonly<Record<string, string>> = {}) {
  const { stdout } = await promisify(execFile)(process.execPath, [program, of, String(seed)], { env: { ...process.env, ...env } })
  return resultsSchema.parse(JSON.parse(stdout))
}

test.runIf(library === undefined)(`operators on rows: ${NEEDS_COMPILER}`, ({ skip }) => skip())

describe.runIf(library !== undefined)('operators on rows, over shapes', () => {
  test('answer as double does, to the same bits alone and by every set with fused products', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const results = await runSweep(library ?? '')
    expect(results.map(({ set }) => set)).toContain('scalar')
    for (const { set, calls, failures } of results) {
      expect(failures, set).toEqual([])
      expect(calls).toBe(CALLS)
    }
  })

  const preload = checkerLibraries()
  test.runIf(preload === '')('under address checkers: g++ has none on this machine', ({ skip }) => skip())
  test.runIf(preload !== '')('touch no memory but their own', { timeout: TIMEOUT_MS }, async () => {
    // What Node leaves behind at its end is none of ours.
    const results = await runSweep(await checkedBuild(), { LD_PRELOAD: preload, ASAN_OPTIONS: 'detect_leaks=0' })
    expect(results.map(({ set }) => set)).toContain('scalar')
    expect(results.flatMap(({ failures }) => failures)).toEqual([])
    expect(results.every(({ calls }) => calls === CALLS)).toBe(true)
  })
})

describe.runIf(library !== undefined)('operators on rows', () => {
  const features = 24
  const rows = 5
  const ones = (length: number) => new Float32Array(length).fill(1)
  let operators: RowOperatorsUnderTest
  beforeAll(async () => {
    operators = await RowOperatorsUnderTest.open(library ?? '')
  })
  afterAll(() => operators?.close())

  const normWith = (name: string, shape: readonly number[]) => {
    const usual: [string, readonly number[]][] = [
      ['residual', [rows, features]],
      ['added', [rows, features]],
      ['weight', [features]],
    ]
    const inputs = usual.map(([key, own]): [string, BoundInput] => {
      const dims = key === name ? shape : own
      const length = dims.reduce((product, size) => product * size, 1)
      return [key, { type: 'f32', shape: dims, data: ones(length) }]
    })
    return operators.normBound(new Map(inputs), [rows, features])
  }

  test.each<[string, string, readonly number[], RegExp]>([
    ['fewer rows to add', 'added', [4, features], /quiver::AddNorm: added is \[4, 24\], residual \[5, 24\]/],
    ['rows of other features to add', 'added', [rows, 8], /added is \[5, 8\]/],
    ['weights for other features', 'weight', [8], /weight has 1 dimensions, the first of 8, for rows of 24/],
  ])('refuse %s', async (_title, name, shape, message) => {
    await expect(normWith(name, shape)).rejects.toThrow(message)
  })

  test('refuse a gate without its other half', async () => {
    const x: BoundInput = { type: 'f32', shape: [2, 7], data: ones(14) }
    await expect(operators.gateBound(x, [2, 3])).rejects.toThrow(/quiver::Gate: x has 7 features, which are not gate and up/)
  })

  test('refuse a negative epsilon', async () => {
    await expect(RowOperatorsUnderTest.open(library ?? '', -1)).rejects.toThrow(/epsilon is -1/)
  })

  test('take no rows, and rows of nothing', async () => {
    const none = new Float32Array(0)
    await expect(operators.norm({ residual: none, added: none, weight: ones(features) })).resolves.toBeDefined()
    await expect(operators.gateBound({ type: 'f32', shape: [0, 2 * features], data: none }, [0, features])).resolves.toBeDefined()
    await expect(operators.gateBound({ type: 'f32', shape: [3, 0], data: none }, [3, 0])).resolves.toBeDefined()
  })
})
