import { randomBytes, randomUUID } from 'node:crypto'
import { readFile, rm, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { type ApiKey, changeKeys, Keyring, makeKey, readKeys } from '@quiver/gateway'
import { describe, expect, test } from 'vitest'
import { knownKeys, matchKey } from '../../../packages/gateway/src/auth/api-key.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'

const now = () => new Date('2026-01-02T03:04:05Z')
const acme = () => makeKey({ tenant: 'acme', rights: ['generate'] }, { drawBytes: randomBytes, now })
const add = (file: string, entry: ApiKey) => changeKeys(file, randomUUID, (keys) => [...keys, entry])
const keysFile = async () => path.join(await temporaryFolder(), 'keys.json')

describe('making', () => {
  test('a secret is 256 random bits, and only its hash is kept, for the owner alone to read', async () => {
    const file = await keysFile()
    const { secret, entry } = acme()
    expect(secret).toMatch(/^quiver_[A-Za-z0-9_-]{43}$/)
    await add(file, entry)
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    expect(await readFile(file, 'utf8')).not.toContain(secret.slice('quiver_'.length))
    expect(await readKeys(file)).toEqual([entry])
  })

  test.each(['', ' ', 'a b', '-a', 'a/b', 'x'.repeat(65), 'ü'])('%j is no tenant', (tenant) => {
    expect(() => makeKey({ tenant, rights: [] }, { drawBytes: randomBytes, now })).toThrow('the tenant must have 1 to 64 letters')
  })

  test('where there is no folder it says so', async () => {
    const file = path.join(await keysFile(), 'deeper.json')
    await expect(add(file, acme().entry)).rejects.toThrow('cannot be written (ENOENT): its folder must be there')
  })

  test('keys that are made at once are all kept', async () => {
    const file = await keysFile()
    const made = Array.from({ length: 5 }, acme)
    await Promise.all(made.map(({ entry }) => add(file, entry)))
    expect((await readKeys(file)).map(({ id }) => id).toSorted()).toEqual(made.map(({ entry }) => entry.id).toSorted())
  })
})

describe('T01: comparing', () => {
  test('looks at all hashes, of one length, whatever was shown', () => {
    const made = Array.from({ length: 4 }, acme)
    const keys = knownKeys(made.map(({ entry }) => entry))
    const first = made[0]?.secret ?? ''
    for (const shown of [first, made[3]?.secret ?? '', `${first.slice(0, -1)}!`, first.slice(0, 20), '', 'x'.repeat(10_000)]) {
      const lengths: number[] = []
      const compared: unknown[] = []
      const found = matchKey(keys, shown, (a, b) => {
        lengths.push(a.byteLength, b.byteLength)
        compared.push(b)
        return Buffer.from(a as Uint8Array).equals(b as Uint8Array)
      })
      expect(lengths).toEqual(Array(8).fill(32))
      // The very bytes that were decoded when the keys were loaded, each of them once.
      expect(compared.every((hash, at) => hash === keys[at]?.hash)).toBe(true)
      expect(found?.id).toBe(made.find(({ secret }) => secret === shown)?.entry.id)
    }
  })
})

describe('the keys in force', () => {
  test('follow the file at once, and none is right without it', async () => {
    const file = await keysFile()
    const [first, second] = [acme(), acme()]
    await add(file, first.entry)
    const keyring = Keyring.open(file, () => {})
    expect(keyring.identify(first.secret)?.id).toBe(first.entry.id)
    await add(file, second.entry)
    expect(keyring.identify(second.secret)?.id).toBe(second.entry.id)
    await changeKeys(file, randomUUID, (keys) => keys.filter(({ id }) => id !== first.entry.id))
    expect([keyring.identify(first.secret), keyring.identify(second.secret)?.id]).toEqual([undefined, second.entry.id])
    await rm(file)
    expect(keyring.identify(second.secret)).toBeUndefined()
  })

  test('G11 stay when the file is spoilt, which is logged once for each state of it', async () => {
    const file = await keysFile()
    const { secret, entry } = acme()
    await add(file, entry)
    const lines: string[] = []
    const keyring = Keyring.open(file, (level, message) => lines.push(`${level} ${message}`))
    await writeFile(file, '{"version": 1, "keys": [{')
    expect([keyring.identify(secret)?.id, keyring.identify(secret)?.id]).toEqual([entry.id, entry.id])
    expect(lines).toEqual([`error the keys file ${file} cannot be used: it is not JSON`])
    await expect(add(file, acme().entry)).rejects.toThrow('it is not JSON')
    await writeFile(file, JSON.stringify({ version: 1, keys: [entry, { ...acme().entry, rights: ['root'] }] }))
    expect([keyring.identify(secret)?.id, keyring.identify(secret)?.id]).toEqual([entry.id, entry.id])
    expect(lines.slice(1)).toEqual([expect.stringContaining(`the keys file ${file} cannot be used: keys.1.rights.0`)])
  })

  test('are not opened from a file that is not there or is none', async () => {
    const file = await keysFile()
    expect(() => Keyring.open(file, () => {})).toThrow('make one with `quiver keys create`')
    await writeFile(file, JSON.stringify({ version: 1, keys: [{ ...acme().entry, rights: ['root'] }] }))
    expect(() => Keyring.open(file, () => {})).toThrow('keys.0.rights.0')
  })
})
