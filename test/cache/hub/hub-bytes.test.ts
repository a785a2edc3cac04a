import { writeFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { HubClient, readHubFile } from '@quiver/cache/hub'
import { describe, expect, it } from 'vitest'
import { type HubFault, type HubRepo, startHub } from '../../support/hub-server.ts'
import { refusal } from '../../support/refusal.ts'
import { SkippingTimers } from '../../support/skipping-timers.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'

const commit = 'a'.repeat(40)
const place = { repo: 'acme/sql', commit }
const name = 'weights.bin'
const content = Buffer.from(Array.from({ length: 40 }, (_, i) => i))

/** Reads one small file, kept as LFS or in git, over connections that a test breaks. */
async function readable(options: { lfs: boolean; repo?: Partial<HubRepo> }) {
  const folder = await temporaryFolder()
  await writeFile(join(folder, name), content)
  const repo = { commits: { [commit]: folder }, refs: {}, lfsBytes: options.lfs ? 0 : 1e9, ...options.repo }
  const hub = await startHub({ 'acme/sql': repo })
  const timers = new SkippingTimers()
  const stop = new AbortController()
  const client = new HubClient({ endpoint: hub.endpoint }, { fetch, signal: stop.signal })
  const isContent = ({ path, range }: { path: string; range: string | undefined }) =>
    range !== 'bytes=0-0' && !path.startsWith('/api/')
  /** The faults of the answers that give content, in order; later ones are good. */
  const failing = (...faults: HubFault[]) => {
    hub.fault = (request) => (isContent(request) && request.origin === (options.lfs ? 'cdn' : 'hub') ? faults.shift() : undefined)
  }
  const read = async () => {
    const [file] = await client.findFiles('acme/sql', commit, [name])
    if (file === undefined) throw new Error('the hub lists the file')
    return await readHubFile(client, place, file, { timers, signal: stop.signal })
  }
  return { hub, folder, timers, stop, read, failing, ranges: () => hub.requests.filter(isContent).map(({ range }) => range) }
}

describe.each([
  ['with a sha256', true],
  ['that the hub keeps in git', false],
])('a file %s', (_, lfs) => {
  it('O04 cut at any byte is the whole file, each byte of it asked for once', async () => {
    for (let at = 1; at < content.length; at++) {
      const { read, failing, ranges } = await readable({ lfs })
      failing({ kind: 'cut', afterBytes: at })
      expect(Buffer.from((await read()).bytes), `cut at ${at}`).toEqual(content)
      expect(new Set(ranges()), `cut at ${at}`).toEqual(new Set([undefined, `bytes=${at}-39`]))
    }
  })

  it('O04 that never comes is given up after a few connections', async () => {
    const { read, hub } = await readable({ lfs })
    hub.fault = ({ path, range }) =>
      range === 'bytes=0-0' || path.startsWith('/api/') ? undefined : { kind: 'cut', afterBytes: 0 }
    const refused = await refusal(read)
    expect([refused.code, refused.message]).toEqual([
      'source_unavailable',
      expect.stringContaining('broke off 5 times, at 0 of 40 bytes'),
    ])
  })

  it('O06 from a server that ignores ranges is read from the start again', async () => {
    const { read, failing } = await readable({ lfs })
    failing({ kind: 'cut', afterBytes: 9 }, { kind: 'no-range' }, { kind: 'no-range' }, { kind: 'no-range' })
    expect(Buffer.from((await read()).bytes)).toEqual(content)
  })

  it('O07 with wrong bytes is read once more, and refused when it is wrong again', async () => {
    const { read, failing } = await readable({ lfs })
    failing({ kind: 'wrong-bytes' })
    expect(Buffer.from((await read()).bytes)).toEqual(content)
    failing({ kind: 'wrong-bytes' }, { kind: 'wrong-bytes' })
    const refused = await refusal(read)
    expect([refused.code, refused.message]).toEqual([
      'source_unavailable',
      expect.stringContaining('digest that the hub lists: it was not used'),
    ])
  })

  it('O10 compressed into far more than it should be is not unpacked', async () => {
    const { read, hub } = await readable({ lfs })
    hub.fault = ({ path, range }) =>
      range === 'bytes=0-0' || path.startsWith('/api/') ? undefined : { kind: 'gzip', bytes: 4_000_000 }
    const refused = await refusal(read)
    expect([refused.code, refused.message]).toEqual(['source_unavailable', expect.stringContaining('longer than the hub lists')])
  })
})

it('O05 a file replaced between two connections is never put together of both', async () => {
  const { read, hub, folder } = await readable({ lfs: false })
  const other = Buffer.alloc(content.length, 0xee)
  let cut = false
  hub.fault = ({ path, range }) => {
    if (range === 'bytes=0-0' || path.startsWith('/api/') || cut) return undefined
    cut = true
    writeFileSync(join(folder, name), other)
    return { kind: 'cut', afterBytes: 20 }
  }
  const refused = await refusal(read)
  expect(refused.code).toBe('source_unavailable')
  const whole = hub.requests.filter(({ path, range }) => range === undefined && path.includes('/resolve/'))
  // From the start again under the new name of the content, and then refused by its digest.
  expect(whole.length).toBeGreaterThan(1)
})

it('an empty file is read without asking for its content', async () => {
  const { read, folder, ranges } = await readable({ lfs: false })
  await writeFile(join(folder, name), '')
  expect((await read()).bytes).toHaveLength(0)
  expect(ranges()).toEqual([])
})
