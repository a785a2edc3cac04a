import { randomUUID } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { openObjectStore, WatchedStore } from '@quiver/cache/store'
import { ServingError } from '@quiver/protocol'
import { describe, expect, it } from 'vitest'
import { ManualClock } from '../../support/manual-clock.ts'
import { MemoryStore } from '../../support/memory-store.ts'
import { refusal } from '../../support/refusal.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'
import { describeObjectStore } from './object-store-conformance.ts'

const clock = new ManualClock()
const deps = { clock, timers: clock, random: () => 0, uniqueId: randomUUID }
const down = new ServingError('source_unavailable', 'the store failed on reading object k', { reason: 'ECONNREFUSED' })

describeObjectStore('a watched store', async () => new WatchedStore(new MemoryStore(), { clock }))

describe('opening a store', () => {
  it('takes the address of a folder', async () => {
    const folder = join(await temporaryFolder(), 'new folder')
    const store = await openObjectStore(pathToFileURL(folder).href, {}, deps)
    await store.put('k', new TextEncoder().encode('v'))
    expect((await store.head('k')).size).toBe(1)
  })

  it('takes the address of a bucket without asking whether it is there', async () => {
    await openObjectStore('s3://bucket/prefix', { s3: { endpoint: 'http://127.0.0.1:1' } }, deps)
  })

  it.each(['', 'file', '/path', 'file://host/path', 'http://127.0.0.1/', 's3:bucket', 's3://', 'S3://bucket'])(
    'refuses %j and says what an address is',
    async (url) => {
      const error = await refusal(() => openObjectStore(url, {}, deps))
      expect(error.code).toBe('invalid_request')
      expect(error.message).toMatch(/is no object store: write /)
    },
  )

  it('refuses a folder that cannot be made', async () => {
    const folder = await temporaryFolder()
    await writeFile(join(folder, 'file'), '')
    await mkdir(join(folder, 'folder'))
    const url = pathToFileURL(join(folder, 'file/store')).href
    expect((await refusal(() => openObjectStore(url, {}, deps))).code).toBe('source_unavailable')
  })
})

describe("a store's health", () => {
  function watched() {
    const [objects, time, logged] = [new MemoryStore(), new ManualClock(), [] as string[]]
    const store = new WatchedStore(objects, { clock: time, log: (level, message) => logged.push(`${level}: ${message}`) })
    const fail = () => {
      objects.onGet = () => Promise.reject(down)
    }
    return { objects, time, logged, store, fail }
  }

  it('is ok until the store fails, then says why, and is ok again after any answer', async () => {
    const { objects, store, fail, logged } = watched()
    expect(store.health()).toEqual({ status: 'ok' })
    fail()
    await refusal(() => store.get('k'))
    await refusal(() => store.get('k'))
    expect(store.health()).toEqual({ status: 'failing', reason: down.message })
    objects.onGet = async () => {}
    expect((await refusal(() => store.get('k'))).code).toBe('not_found')
    expect(store.health()).toEqual({ status: 'ok' })
    expect(logged).toEqual([`warn: ${down.message}`, 'info: the object store answers again'])
  })

  it('is not judged by objects that are wrong and callers that leave', async () => {
    const { objects, store } = watched()
    for (const code of ['not_found', 'conflict', 'too_large', 'client_closed', 'source_unavailable'] as const) {
      objects.onGet = () => Promise.reject(new ServingError(code, 'about the object'))
      await refusal(() => store.get('k'))
    }
    expect(store.health()).toEqual({ status: 'ok' })
  })

  it('O16 is tried again while it fails, when asked for and not too often', async () => {
    const { store, time, fail } = watched()
    fail()
    await refusal(() => store.get('k'))
    expect(store.health().status).toBe('failing')
    // The probe that this began found the store well: only reads fail here.
    await Promise.resolve()
    expect((await store.probe()).status).toBe('ok')
    await refusal(() => store.get('k'))
    time.advance(4_999)
    expect(store.health().status).toBe('failing')
    await new Promise((resolve) => setImmediate(resolve))
    expect(store.health().status).toBe('failing')
    time.advance(1)
    store.health()
    await new Promise((resolve) => setImmediate(resolve))
    expect(store.health().status).toBe('ok')
  })
})
