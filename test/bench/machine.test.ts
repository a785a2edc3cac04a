import { expect, test } from 'vitest'
import { relevantFlags } from '../../bench/shared/machine.ts'
import { parseStatus } from '../../bench/shared/process-memory.ts'

test('names the instructions that matter, on Intel and on ARM', () => {
  expect(relevantFlags('model name : X\nflags\t\t: fpu sse2 avx2 avx512f avx512_vnni amx_int8 avx512ifma\nbugs : y\n')).toBe(
    'avx2 avx512f avx512_vnni amx_int8',
  )
  expect(relevantFlags('Features\t: fp asimd asimddp i8mm crc32\n')).toBe('asimd asimddp i8mm')
  expect(relevantFlags('')).toBe('')
})

test('reads resident memory in bytes', () => {
  const status = 'Name:\tnode\nVmHWM:\t    9 kB\nVmRSS:\t    2048 kB\nRssAnon:\t    1000 kB\nRssFile:\t    1048 kB\n'
  expect(parseStatus(status)).toEqual({ resident: 2_097_152, anonymous: 1_024_000 })
})

test('tells nothing where the system tells nothing', () => {
  expect(parseStatus('Name:\tnode\n')).toBeUndefined()
})
