/** Aliases, canaries, rollback, deletion, pins and prefetch over REST, as requests and workers see them. */
import { ServingError } from '@quiver/protocol'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type AdminUnderTest, smallAdapter, startAdmin, uploadForm } from '../../support/admin-under-test.ts'
import { scriptedAdapters } from '../../support/scripted-worker.ts'

let under: AdminUnderTest
/** Digests of versions 1 and 2 of `acme/a`; latest is 2. */
let digests: string[]
const at = '/admin/adapters/acme%2Fa'
beforeEach(async () => {
  under = await startAdmin()
  digests = []
  for (const n of [1, 2]) {
    const { json } = await under.ask('PUT', `${at}/upload`, uploadForm(smallAdapter(n)))
    digests.push((json as { digest: string }).digest)
  }
  // What the worker has pinned of its own is let go first.
  await under.pins.keep()
  under.worker.orders.length = 0
})
afterEach(() => under.close())

async function served(model: string): Promise<number> {
  const answered = await under.post('/v1/completions', { model, prompt: 'Hi' })
  const adapter = under.worker.requests.at(-1)?.adapter
  return answered.status === 200 && adapter?.kind === 'registered' ? digests.indexOf(adapter.digest) + 1 : answered.status
}

describe('an alias', () => {
  test('is moved by compare-and-swap, rolled back and removed', async () => {
    expect((await under.ask('PUT', `${at}/aliases/stable`, { version: 1, expected: 0 })).json).toMatchObject({
      aliases: { stable: { version: 1 } },
    })
    expect(await served('acme/a@stable')).toBe(1)
    const late = await under.ask('PUT', `${at}/aliases/stable`, { version: 2, expected: 0 })
    expect([late.status, late.json, await served('acme/a@stable')]).toMatchObject([409, { error_type: 'conflict' }, 1])
    await under.ask('PUT', `${at}/aliases/stable`, { version: 2, expected: 1 })
    expect(await served('acme/a@stable')).toBe(2)
    expect((await under.ask('POST', `${at}/rollback`, { alias: 'stable', expected: 2 })).status).toBe(200)
    expect(await served('acme/a@stable')).toBe(1)
    expect((await under.ask('DELETE', `${at}/aliases/stable?expected=1`)).status).toBe(200)
    expect(await served('acme/a@stable')).toBe(404)
  })

  test('latest goes back without a body, and only as far as there is something', async () => {
    expect([await served('acme/a'), (await under.ask('POST', `${at}/rollback`)).status, await served('acme/a')]).toEqual([
      2, 200, 1,
    ])
    expect((await under.ask('POST', `${at}/rollback`)).status).toBe(409)
  })

  test.each([
    [{ version: 9 }, 'stable', 404],
    [{ version: 0 }, 'stable', 422],
    [{ version: 1, expect: 1 }, 'stable', 422],
    [{ version: 1 }, '3', 400],
    [{ version: 1 }, 'a%2Fb', 400],
  ] as const)('is not moved by %j under %s: %d', async (body, alias, status) => {
    expect((await under.ask('PUT', `${at}/aliases/${alias}`, body)).status).toBe(status)
  })

  test('is told with its canary, which ends on demand', async () => {
    const set = await under.ask('PUT', `${at}/canary`, { version: 1, share_percent: 50 })
    expect(set.json).toMatchObject({ aliases: { latest: { version: 2, canary: { version: 1, share_percent: 50 } } } })
    const seen = new Set<number>()
    for (let n = 0; n < 24; n++) {
      await under.post('/v1/completions', { model: 'acme/a', prompt: 'Hi', user: `u${n}` })
      const adapter = under.worker.requests.at(-1)?.adapter
      if (adapter?.kind === 'registered') seen.add(digests.indexOf(adapter.digest) + 1)
    }
    expect(seen).toEqual(new Set([1, 2]))
    const ended = await under.ask('DELETE', `${at}/canary`)
    expect(JSON.stringify(ended.json)).not.toContain('canary')
    expect((await under.ask('PUT', `${at}/canary`, { version: 1, share_percent: 100 })).status).toBe(422)
  })
})

describe('a name', () => {
  test.each([
    ['/admin/adapters/acme%2fa', 200],
    ['/admin/adapters/acme/a', 200],
    ['/admin/adapters/acme%252Fa', 400],
    ['/admin/adapters/acme%2F..%2Fa', 400],
    ['/admin/adapters/%zz', 400],
    ['/admin/adapters/%00', 400],
    ['/admin/adapters/acme%2Fb', 404],
    ['/admin/adapters/', 404],
  ])('%s is %d', async (route, status) => {
    expect((await under.ask('GET', route)).status).toBe(status)
  })

  test('is taken out of service for new requests, and brought back', async () => {
    const deleted = await under.ask('DELETE', at)
    expect([deleted.status, deleted.json]).toMatchObject([
      200,
      { retired: true, versions: [{ retired: expect.any(String) }, { retired: expect.any(String) }] },
    ])
    expect(await served('acme/a')).toBe(404)
    expect((await under.post('/generate', { inputs: 'Hi', parameters: { adapter_id: 'acme/a' } })).status).toBe(424)
    const names = async (query: string) => JSON.stringify((await under.ask('GET', `/admin/adapters${query}`)).json)
    expect([(await names('')).includes('acme/a'), (await names('?retired=true')).includes('acme/a')]).toEqual([false, true])
    expect((await under.ask('POST', `${at}/restore`)).json).toMatchObject({ retired: false })
    expect(await served('acme/a')).toBe(2)
  })

  test('keeps a version that an alias names, and gives up one that none does', async () => {
    expect((await under.ask('DELETE', `${at}?version=2`)).status).toBe(409)
    expect((await under.ask('DELETE', `${at}?version=1`)).status).toBe(200)
    expect([await served('acme/a@1'), await served('acme/a')]).toEqual([404, 2])
  })

  test('is listed page by page, by prefix, and what a page cannot be is said', async () => {
    await under.ask('PUT', '/admin/adapters/acme%2Fb/upload', uploadForm(smallAdapter(3)))
    await under.ask('PUT', '/admin/adapters/zoo/upload', uploadForm(smallAdapter(3)))
    const first = await under.ask('GET', '/admin/adapters?prefix=acme/&limit=1')
    expect(first.json).toEqual({
      adapters: [
        {
          name: 'acme/a',
          versions: 2,
          latest: 2,
          aliases: { latest: { version: 2, previous: [1] } },
          pinned: false,
          retired: false,
        },
      ],
      cursor: expect.any(String),
    })
    const { cursor } = first.json as { cursor: string }
    expect((await under.ask('GET', `/admin/adapters?prefix=acme/&limit=1&cursor=${cursor}`)).json).toMatchObject({
      adapters: [{ name: 'acme/b' }],
      cursor: null,
    })
    for (const query of ['limit=0', 'limit=1001', 'limit=x', 'order=up', 'retired=yes']) {
      expect((await under.ask('GET', `/admin/adapters?${query}`)).status, query).toBe(422)
    }
    expect((await under.ask('GET', '/admin/adapters?cursor=nonsense')).status).toBe(400)
  })
})

describe('orders', () => {
  const ordered = () =>
    under.worker.orders.map(
      ({ kind, adapter }) => `${kind} ${adapter.kind === 'registered' ? digests.indexOf(adapter.digest) + 1 : '?'}`,
    )

  test('a pin is kept by the workers, follows the alias, and is let go', async () => {
    expect((await under.ask('POST', `${at}/pin`)).json).toMatchObject({ pinned: true })
    expect(ordered()).toEqual(['pin 2'])
    await under.ask('POST', `${at}/rollback`)
    await under.pins.keep()
    expect(ordered()).toEqual(['pin 2', 'unpin 2', 'pin 1'])
    expect((await under.ask('POST', `${at}/unpin`)).json).toMatchObject({ pinned: false })
    expect(ordered().at(-1)).toBe('unpin 1')
  })

  test('a pin that a worker cannot follow stays a wish, and the answer says why', async () => {
    under.worker.onOrder = () => {
      throw new ServingError('conflict', 'no more may be pinned')
    }
    const answered = await under.ask('POST', `${at}/pin`)
    expect([answered.status, answered.json]).toMatchObject([
      200,
      { pinned: true, problems: [{ version: 2, error: 'no more may be pinned', error_type: 'conflict' }] },
    ])
  })

  test('a worker that becomes ready is told what is pinned, and to let go what is not', async () => {
    await under.ask('POST', `${at}/pin`)
    under.worker.orders.length = 0
    await under.rejoin()
    await under.pins.keep()
    // The scripted worker says of an adapter with the digest a… that it is pinned.
    expect(scriptedAdapters.adapters[0]).toMatchObject({ digest: 'a'.repeat(64), pinned: true })
    expect(ordered()).toEqual(['unpin 0', 'pin 2'])
    await under.pins.keep()
    expect(under.worker.orders).toHaveLength(2)
  })

  test('a prefetch is answered when it is there, for the version that is named', async () => {
    expect((await under.ask('POST', `${at}/prefetch`)).status).toBe(200)
    expect((await under.ask('POST', `${at}/prefetch`, { version: 1 })).status).toBe(200)
    expect((await under.ask('POST', `${at}/lift`, { version: 1 })).status).toBe(200)
    expect(ordered()).toEqual(['prefetch 2', 'prefetch 1', 'lift 1'])
    expect((await under.ask('POST', `${at}/prefetch`, { version: 9 })).status).toBe(404)
    under.worker.onOrder = () => {
      throw new ServingError('adapter_invalid', 'it does not fit')
    }
    expect((await under.ask('POST', `${at}/prefetch`)).json).toEqual({ error: 'it does not fit', error_type: 'adapter_invalid' })
  })
})

test('who changed what is in the audit log, the newest first, page by page', async () => {
  await under.ask('PUT', `${at}/aliases/stable`, { version: 1 })
  await under.ask('POST', `${at}/rollback`)
  await under.ask('DELETE', at)
  const { json } = await under.ask('GET', '/admin/audit?limit=500')
  const actions = (json as { events: { action: string; subject: string }[] }).events.map(({ action }) => action)
  expect(actions.toSorted()).toEqual(['adapter.retire', 'alias.move', 'alias.rollback', 'publish', 'publish'])
  const first = (await under.ask('GET', '/admin/audit?limit=2')).json as { cursor: string }
  expect((await under.ask('GET', `/admin/audit?limit=500&cursor=${first.cursor}`)).json).toMatchObject({
    events: { length: 3 },
    cursor: null,
  })
  expect((await under.ask('GET', '/admin/audit?name=other')).json).toMatchObject({ events: [] })
})
