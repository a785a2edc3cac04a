import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ServingError } from '@quiver/protocol'
import { expect, test } from 'vitest'
import { startFailure } from '../../packages/cli/src/start-failure.ts'

test('a cache folder that cannot be made is named, with what to change', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'quiver-start-'))
  await writeFile(join(folder, 'file'), '')
  const cache = join(folder, 'file/cache')
  const thrown = await mkdir(cache, { recursive: true }).catch((error: unknown) => error)
  await rm(folder, { recursive: true })
  expect(startFailure(thrown, cache)).toMatchObject({
    code: 'source_unavailable',
    message: `the cache folder ${cache} cannot be used (ENOTDIR): choose another with --cache or QUIVER_CACHE, or make room and grant rights there`,
  })
})

test('what a worker says of itself, and what is nobody’s setting, stays as it is', () => {
  const said = new ServingError('invalid_request', 'family mamba is not supported')
  expect(startFailure(said, '/c')).toBe(said)
  expect(startFailure(new TypeError('x is undefined'), '/c').code).toBe('internal')
  const elsewhere = Object.assign(new Error('EACCES'), { code: 'EACCES', syscall: 'open', path: '/elsewhere' })
  expect(startFailure(elsewhere, '/c').code).toBe('internal')
})
