import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { ServingError } from '@quiver/protocol'
import { expect, test } from 'vitest'
import { openStore, orUnusable, s3Settings } from '../../packages/cli/src/object-store.ts'
import { freePorts } from '../support/guarded-process.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { refusal } from '../support/refusal.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

const deps = { clock: new ManualClock(), log: () => {} }
const nowhere = { s3Endpoint: '', s3Region: '' }

test('an empty endpoint and region are left to the SDK', () => {
  expect(s3Settings({ store: '', ...nowhere })).toEqual({})
  expect(s3Settings({ store: '', s3Endpoint: 'http://h', s3Region: 'r' })).toEqual({ endpoint: 'http://h', region: 'r' })
})

test('a folder that cannot be written is named, with the reason and what to change', async () => {
  const folder = await temporaryFolder()
  await writeFile(path.join(folder, 'file'), '')
  const store = pathToFileURL(path.join(folder, 'file/store')).href
  const { code, message } = await refusal(() => openStore({ store, ...nowhere }, deps))
  expect(code).toBe('source_unavailable')
  expect(message).toBe(
    `cannot keep adapters in ${store} (ENOTDIR): choose a folder that can be written, with --data or QUIVER_DATA`,
  )
})

test('O16 a bucket that does not answer at start is named, with its server, the reason and what to change', async () => {
  const [port] = await freePorts(1)
  const config = { store: 's3://models/quiver', s3Endpoint: `http://127.0.0.1:${port}`, s3Region: '' }
  process.env['AWS_ACCESS_KEY_ID'] ??= 'a'
  process.env['AWS_SECRET_ACCESS_KEY'] ??= 'b'
  const store = await openStore(config, deps)
  const { code, message } = await refusal(() => orUnusable(config, () => store.head('k')))
  expect(code).toBe('source_unavailable')
  expect(message).toBe(
    `the object store s3://models/quiver at http://127.0.0.1:${port} cannot be used: the store failed on reading object k (ECONNREFUSED). ` +
      'Start it, or correct --store, --s3-endpoint or its credentials',
  )
})

test('other failures stay what they are', async () => {
  const bug = new Error('a bug')
  await expect(orUnusable({ store: 's3://b', ...nowhere }, () => Promise.reject(bug))).rejects.toBe(bug)
  const refused = new ServingError('adapter_invalid', 'x')
  await expect(orUnusable({ store: 's3://b', ...nowhere }, () => Promise.reject(refused))).rejects.toBe(refused)
})
