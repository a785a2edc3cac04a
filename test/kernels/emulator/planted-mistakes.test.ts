/** Mistakes planted in kernels: each is caught, by the build that is meant to, and the same kernel without it runs through. */
import { beforeAll, describe, expect, test } from 'vitest'
import { runOnShim, type ShimBuild, shimProgram } from '../../support/shim-builds.ts'

const builds: readonly ShimBuild[] = ['plain', 'ucontext', 'address', 'race']
const programs = new Map<ShimBuild, string>()
const orders = ['forward', 'reverse', 'shuffle:1', 'shuffle:2', 'shuffle:3']

interface Caught {
  readonly by: readonly ShimBuild[]
  readonly says: RegExp
}
const everywhere = (says: RegExp): readonly Caught[] => [{ by: builds, says: new RegExp(`^emulator: .*${says.source}`, 'm') }]
const wrong: Caught = { by: ['plain', 'ucontext', 'address'], says: /^wrong result/m }
const raced: Caught = { by: ['race'], says: /ThreadSanitizer: data race[\s\S]*planted\.cu:\d+/ }
const overran: Caught = { by: ['address'], says: /AddressSanitizer: heap-buffer-overflow[\s\S]*planted\.cu:\d+/ }

const mistakes: Readonly<Record<string, readonly Caught[]>> = {
  'read-after-write': [wrong, raced],
  'write-after-read': [wrong, raced],
  'missing-warp-barrier': [wrong, raced],
  'wrong-wait-count': [{ by: builds, says: /^wrong result: -?nan/m }],
  'global-overrun': [overran],
  'dynamic-overrun': [overran],
  'overrun-by-copy': [overran],
  'static-overrun': [{ by: ['address'], says: /planted\.cu:\d+:\d+: runtime error: index 63 out of bounds/ }],
  'misaligned-load': [{ by: ['address'], says: /planted\.cu:\d+:\d+: runtime error: .*misaligned address/ }],
  'divergent-barrier': everywhere(/divergent __syncthreads: thread \(0,0,0\) waits .*planted\.cu:\d+.*; thread \(1,0,0\) waits/),
  'exited-thread': everywhere(/divergent __syncthreads: .*thread \(40,0,0\) has already exited/),
  'half-mask-shuffle': everywhere(
    /deadlock: shuffle with mask ffffffff waits for lanes (?:ffff0000|0000ffff)|lane \d+ has already exited/,
  ),
  'foreign-lane-shuffle': everywhere(/shuffle from lane \d+, which is not in the mask 0000ffff/),
  'mismatched-collectives': everywhere(/(?:shuffle|vote) while other lanes of the mask ffffffff are at (?:vote|shuffle)/),
  'foreign-mask': everywhere(/__syncwarp with mask 0000ffff, which does not name its own lane/),
  'misaligned-ldmatrix': everywhere(/misaligned ldmatrix: row 0x[0-9a-f]+ is not 16-byte aligned/),
  'misaligned-copy': everywhere(/misaligned cp\.async: source 0x[0-9a-f]+ is not 16-byte aligned/),
  'unwaited-copy': everywhere(/cp\.async that nobody waited for/),
}
const cases = Object.keys(mistakes)

beforeAll(async () => {
  for (const build of builds) programs.set(build, await shimProgram(build, 'test/kernels/emulator/planted.cu'))
}, 300_000)
const planted = (build: ShimBuild, words: readonly string[], order = 'forward') =>
  runOnShim(programs.get(build) ?? '', words, { EMULATOR_ORDER: order })

describe.each(cases)('%s', (name) => {
  const caught = mistakes[name] ?? []

  test.each(caught.flatMap(({ by, says }) => by.map((build) => ({ build, says }))))(
    'is caught by the $build build in every order',
    async ({ build, says }) => {
      for (const order of build === 'plain' ? orders : ['forward', 'reverse']) {
        const { exitCode, output } = await planted(build, [name], order)
        expect(output, order).toMatch(says)
        expect(exitCode, order).not.toBe(0)
      }
    },
  )

  test('is not seen where it is not', async () => {
    for (const build of builds) {
      expect(await planted(build, [name, 'right'], 'shuffle:7'), build).toEqual({ exitCode: 0, output: 'right\n' })
    }
  })
})

test('a report names kernel, block, thread and line', async () => {
  const { exitCode, output } = await planted('plain', ['unwaited-copy'])
  expect(output).toMatch(
    /^emulator: unwaited_copy<true>, block \(0,0,0\), thread \(0,0,0\), .*test\/kernels\/emulator\/planted\.cu:\d+: /m,
  )
  expect(exitCode).toBe(86)
})
