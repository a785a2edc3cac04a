/** `quiver adapters` against a gateway: what it prints, and how it says no. */
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { PassThrough } from 'node:stream'
import { afterEach, beforeEach, expect, test } from 'vitest'
import {
  type AdaptersIo,
  listAdapters,
  moveAlias,
  publishAdapter,
  retireAdapter,
  rollBack,
  setPinned,
  showAdapter,
} from '../../packages/cli/src/adapters-command.ts'
import { type AdminUnderTest, smallAdapter, startAdmin } from '../support/admin-under-test.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

const KEY = 'the-admin-key'
let under: AdminUnderTest
beforeEach(async () => {
  under = await startAdmin({ deps: { adminKey: KEY } })
})
afterEach(() => under.close())

/** What a command prints. */
async function printed(work: (io: AdaptersIo) => Promise<void>, io: Partial<AdaptersIo> = {}): Promise<string> {
  const stdout = new PassThrough({ encoding: 'utf8' })
  await work({ stdout, fetch, url: under.url, key: KEY, ...io })
  return String(stdout.read() ?? '')
}

async function folder(n: number): Promise<string> {
  const at = await temporaryFolder()
  const { config, weights } = smallAdapter(n)
  await writeFile(path.join(at, 'adapter_config.json'), config)
  await writeFile(path.join(at, 'adapter_model.safetensors'), weights)
  return at
}

test('an adapter is published from a folder, moved, rolled back, pinned and retired', async () => {
  const first = await folder(1)
  expect(await printed(async (io) => publishAdapter('acme/a', first, { alias: 'latest' }, io))).toMatch(
    /^acme\/a {2}1 {2}sha256:[0-9a-f]{64} {2}latest {2}new\n$/,
  )
  expect(await printed(async (io) => publishAdapter('acme/a', first, {}, io))).toMatch(/was there\n$/)
  const second = await folder(2)
  await printed(async (io) => publishAdapter('acme/a', second, { alias: 'next,try', pin: true, expected: '0' }, io))
  expect(await printed((io) => listAdapters('acme/', io))).toBe('acme/a  1  latest=1,next=2,try=2  pinned\n')
  expect(await printed((io) => moveAlias('acme/a', 'latest', '2', '1', io))).toBe('acme/a  latest=2,next=2,try=2  pinned\n')
  expect(await printed((io) => rollBack('acme/a', undefined, io))).toBe('acme/a  latest=1,next=2,try=2  pinned\n')
  expect(await printed((io) => setPinned('acme/a', false, io))).toBe('acme/a  latest=1,next=2,try=2\n')
  expect(JSON.parse(await printed((io) => showAdapter('acme/a', io)))).toMatchObject({ name: 'acme/a', latest: 1 })
  expect(await printed((io) => retireAdapter('acme/a', undefined, io))).toContain('retired\n')
  expect(await printed((io) => listAdapters('', io))).toBe('')
})

test('what the server refuses is said in its words', async () => {
  await expect(printed((io) => showAdapter('nothing', io))).rejects.toThrow("Adapter 'nothing' is not known here.")
  await expect(printed((io) => publishAdapter('a', 'hub:x/y', { pin: true }, io))).rejects.toMatchObject({ name: 'ServingError' })
  await expect(printed((io) => moveAlias('a', 'b', 'x', undefined, io))).rejects.toMatchObject({ code: 'invalid_parameters' })
})

test('a folder that is none, a missing key and a missing server are named', async () => {
  const nothing = path.join(await temporaryFolder(), 'nothing')
  await expect(printed((io) => publishAdapter('a', nothing, {}, io))).rejects.toThrow(
    'adapter_config.json cannot be read (ENOENT)',
  )
  await expect(printed((io) => listAdapters('', io), { key: '' })).rejects.toThrow(/administration wants --admin-key/)
  await expect(printed((io) => listAdapters('', io), { url: 'http://127.0.0.1:9' })).rejects.toThrow(
    'there is no server at http://127.0.0.1:9',
  )
})
