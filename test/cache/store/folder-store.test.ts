import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdir, readdir, readFile, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { FolderStore, putStoredAdapter, storedAdapterKeys } from '@quiver/cache/store'
import { parseAdapterDigest } from '@quiver/protocol'
import { describe, expect, it } from 'vitest'
import { refusal } from '../../support/refusal.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'
import { describeObjectStore } from './object-store-conformance.ts'

const text = (value: string): Uint8Array => new TextEncoder().encode(value)
const openIn = (folder: string): Promise<FolderStore> => FolderStore.open(folder, randomUUID)

describeObjectStore('a folder', async () => openIn(await temporaryFolder()))

describe('a folder store', () => {
  it('leaves nothing behind but the objects', async () => {
    const folder = await temporaryFolder()
    const store = await openIn(folder)
    const { etag } = await store.put('a/k', text('1'))
    await store.put('a/k', text('2'), { ifMatch: etag })
    await refusal(() => store.put('a/k', text('3'), { ifMatch: etag }))
    await refusal(() => store.put('a/k', text('4'), { ifNoneMatch: '*' }))
    expect(await readdir(join(folder, 'a'))).toEqual(['k'])
  })

  it('neither reads, writes, lists nor deletes through symbolic links', async () => {
    const outside = await temporaryFolder()
    await writeFile(join(outside, 'secret'), 'x')
    const folder = await temporaryFolder()
    const store = await openIn(folder)
    await symlink(outside, join(folder, 'way'))
    await symlink(join(outside, 'secret'), join(folder, 'file'))
    expect((await refusal(() => store.get('way/secret'))).code).toBe('not_found')
    expect((await refusal(() => store.get('file'))).code).toBe('not_found')
    expect((await refusal(() => store.put('way/new', text('x')))).code).toBe('conflict')
    await store.delete('way/secret')
    for await (const { key } of store.list('')) expect.fail(`listed ${key}`)
    expect(await readdir(outside)).toEqual(['secret'])
    await store.put('file', text('own'))
    expect(await readFile(join(outside, 'secret'), 'utf8')).toBe('x')
  })

  it('does not wait for a FIFO and does not read a device', async () => {
    const folder = await temporaryFolder()
    const store = await openIn(folder)
    execFileSync('mkfifo', [join(folder, 'pipe')])
    await mkdir(join(folder, 'directory'))
    expect((await refusal(() => store.get('pipe'))).code).toBe('not_found')
    expect((await refusal(() => store.get('directory'))).code).toBe('not_found')
  })

  it('sees a change that leaves size and mtime as they were', async () => {
    const folder = await temporaryFolder()
    const store = await openIn(folder)
    const { etag } = await store.put('k', text('aaaa'))
    await utimes(join(folder, 'k'), 1_000, 1_000)
    expect((await store.head('k')).etag).toBe(etag)
    await writeFile(join(folder, 'k'), 'bbbb')
    await utimes(join(folder, 'k'), 1_000, 1_000)
    expect((await store.head('k')).etag).not.toBe(etag)
  })

  it('takes over the lock of a process that died', async () => {
    const folder = await temporaryFolder()
    const store = await openIn(folder)
    const { etag } = await store.put('k', text('1'))
    // No process has this id: it is above the largest that Linux gives.
    await writeFile(join(folder, '.quiver-lock-k'), '4194999')
    await store.put('k', text('2'), { ifMatch: etag })
    expect(await readdir(folder)).toEqual(['k'])
  })

  it('is refused when the folder cannot be made', async () => {
    const folder = await temporaryFolder()
    await writeFile(join(folder, 'file'), '')
    const error = await refusal(() => openIn(join(folder, 'file', 'store')))
    expect(error.code).toBe('source_unavailable')
    expect(error.message).not.toContain(folder)
  })

  it('keeps an adapter under its digest alone, and twice is once', async () => {
    const store = await openIn(await temporaryFolder())
    const digest = parseAdapterDigest('ab'.repeat(32))
    const files = { config: text('{}'), weights: new Uint8Array([1, 2, 3]) }
    await putStoredAdapter(store, digest, files)
    await putStoredAdapter(store, digest, files)
    expect(storedAdapterKeys(digest).config).toBe(`adapters/sha256/ab/${digest}/adapter_config.json`)
    expect((await store.get(storedAdapterKeys(digest).weights)).size).toBe(3)
  })
})
