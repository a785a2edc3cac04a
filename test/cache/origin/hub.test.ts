import { rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { inspectAdapter } from '@quiver/cache/format'
import { describe, expect, it } from 'vitest'
import { buildAdapter, tinyLayout } from '../../support/adapter-files.ts'
import { adapterFolder, firstCommit, hubUnderTest, secondCommit } from '../../support/hub-adapters.ts'
import { refusal } from '../../support/refusal.ts'

const { signal } = new AbortController()
const weightsFile = 'adapter_model.safetensors'

describe('an adapter of the hub', () => {
  it('has the digest of its content, its commit as provenance, and its own bytes', async () => {
    const { origin } = await hubUnderTest()
    const { config, weights } = buildAdapter()
    const found = await origin.resolve({ id: 'acme/sql' })
    expect(found.digest).toBe((await inspectAdapter(config, weights, tinyLayout, 8)).digest)
    expect(found.provenance).toEqual({ type: 'hub', id: 'acme/sql', revision: firstCommit, asked: 'main' })
    const files = await found.fetch(signal)
    expect([new Uint8Array(files.config), files.weights]).toEqual([new Uint8Array(config), weights])
  })

  it('is found without reading its weights, and each file is read once', async () => {
    const { origin, contentOf } = await hubUnderTest()
    const found = await origin.resolve({ id: 'acme/sql' })
    expect(contentOf(weightsFile)).toBe(0)
    await found.fetch(signal)
    const [config, weights] = [contentOf('adapter_config.json'), contentOf(weightsFile)]
    // A probe for the size and the content.
    expect([config, weights]).toEqual([2, 2])
  })

  it('is read twice when it is asked for again after its bytes were given away', async () => {
    const { origin } = await hubUnderTest()
    const found = await origin.resolve({ id: 'acme/sql' })
    expect(await found.fetch(signal)).toEqual(await found.fetch(signal))
  })

  it('is found where the hub keeps its weights without a sha256, by reading them once', async () => {
    const { origin, contentOf, clock } = await hubUnderTest({ repo: { lfsBytes: 1e9 } })
    const found = await origin.resolve({ id: 'acme/sql' })
    const { config, weights } = buildAdapter()
    expect(found.digest).toBe((await inspectAdapter(config, weights, tinyLayout, 8)).digest)
    expect((await found.fetch(signal)).weights).toEqual(weights)
    clock.advance(61_000)
    await origin.resolve({ id: 'acme/sql' })
    expect(contentOf(weightsFile)).toBe(2)
  })

  it('asks for no other file than the two of an adapter and its chat template', async () => {
    const { origin, hub, folder } = await hubUnderTest()
    for (const name of ['adapter_model.bin', 'training_args.bin', 'README.md', 'evil.pkl'])
      await writeFile(join(folder, name), 'x')
    await writeFile(join(folder, 'chat_template.jinja'), '{{ messages }}')
    const found = await origin.resolve({ id: 'acme/sql' })
    await found.fetch(signal)
    expect(await found.chatTemplate(signal)).toBe('{{ messages }}')
    const asked = hub.requests.flatMap(({ path }) => /\/resolve\/[^/]+\/(.*)$/.exec(path)?.[1] ?? [])
    expect(new Set(asked)).toEqual(new Set(['adapter_config.json', weightsFile, 'chat_template.jinja']))
  })

  it('O12 is the one of its branch a minute later at most, while one that was found stays what it was', async () => {
    const { origin, repo, clock } = await hubUnderTest({
      repo: { commits: { [firstCommit]: await adapterFolder(), [secondCommit]: await adapterFolder({ alpha: 7 }) } },
    })
    const first = await origin.resolve({ id: 'acme/sql' })
    repo.refs['main'] = secondCommit
    expect((await origin.resolve({ id: 'acme/sql' })).digest).toBe(first.digest)
    clock.advance(61_000)
    const second = await origin.resolve({ id: 'acme/sql' })
    expect(second.digest).not.toBe(first.digest)
    expect((await origin.resolve({ id: 'acme/sql', revision: firstCommit })).digest).toBe(first.digest)
    expect((await first.fetch(signal)).weights).toEqual(buildAdapter().weights)
  })

  it('O17 is looked up once for a hundred that ask at once', async () => {
    const { origin, hub } = await hubUnderTest()
    const found = await Promise.all(Array.from({ length: 100 }, () => origin.resolve({ id: 'acme/sql' })))
    expect(new Set(found.map(({ digest }) => digest)).size).toBe(1)
    expect(hub.requests.filter(({ path }) => path.endsWith('/revision/main'))).toHaveLength(1)
  })

  it.each(['x', 'a/b/c', '../a', 'a/..', 'a//b', 'https://hub/a/b', 'a/b?x', 'a b/c', ''])(
    'H15 %j is no id and asks nobody',
    async (id) => {
      const { origin, hub } = await hubUnderTest()
      expect((await refusal(() => origin.resolve({ id }))).code).toBe('invalid_request')
      expect(hub.requests).toEqual([])
    },
  )
})

describe('whose adapter it is', () => {
  it('a private adapter is there for the token that may read it, and for nobody else', async () => {
    const { origin } = await hubUnderTest({ repo: { access: 'private', readers: ['hf_alice'] } })
    const found = await origin.resolve({ id: 'acme/sql', token: 'hf_alice' })
    await found.fetch(signal)
    for (const token of [undefined, 'hf_mallory']) {
      expect((await refusal(() => origin.resolve({ id: 'acme/sql', token }))).code).toBe('adapter_not_found')
    }
    expect((await origin.resolve({ id: 'acme/sql', token: 'hf_alice' })).digest).toBe(found.digest)
  })

  it('a gated adapter whose files are listed to everybody is there only for who may read their content', async () => {
    const { origin } = await hubUnderTest({ repo: { access: 'listed', readers: ['hf_alice'] } })
    await origin.resolve({ id: 'acme/sql', token: 'hf_alice' })
    const refused = await refusal(() => origin.resolve({ id: 'acme/sql', token: 'hf_mallory' }))
    expect([refused.code, refused.message]).toEqual(['forbidden', expect.stringMatching(/restricted.*accept its terms/)])
  })

  it('a token that has lost its right has lost it here a minute later', async () => {
    const repo = { access: 'private' as const, readers: ['hf_alice'] }
    const { origin, clock, repo: running } = await hubUnderTest({ repo })
    await origin.resolve({ id: 'acme/sql', token: 'hf_alice' })
    Object.assign(running, { readers: [] })
    clock.advance(61_000)
    expect((await refusal(() => origin.resolve({ id: 'acme/sql', token: 'hf_alice' }))).code).toBe('adapter_not_found')
  })

  it("the server's own token is used where a request has none", async () => {
    const { origin } = await hubUnderTest({ repo: { access: 'private' }, token: 'hf_test_token' })
    await (await origin.resolve({ id: 'acme/sql' })).fetch(signal)
  })

  it('O09 the token goes to the hub and to no host that it redirects to', async () => {
    const { origin, hub } = await hubUnderTest({ repo: { access: 'private' } })
    await (await origin.resolve({ id: 'acme/sql', token: 'hf_test_token' })).fetch(signal)
    const shown = (from: string) => new Set(hub.requests.filter((one) => one.origin === from).map((one) => one.authorization))
    expect([shown('hub'), shown('cdn')]).toEqual([new Set(['Bearer hf_test_token']), new Set([undefined])])
  })

  it('no refusal holds a token, not even one that cannot stand in a header', async () => {
    const { origin, hub } = await hubUnderTest({ repo: { access: 'private' } })
    for (const token of ['hf_wrong', 'hf_broken\nx', `hf_${'é'.repeat(3)}`, '']) {
      const error = await refusal(() => origin.resolve({ id: 'acme/sql', token }))
      const said = JSON.stringify([error.message, error.context, String(error.cause), error.stack])
      if (token !== '') expect(said).not.toContain(JSON.stringify(token).slice(1, -1))
    }
    expect(hub.requests.filter(({ authorization }) => authorization !== 'Bearer hf_wrong')).toEqual([])
  })

  it('O02 a refusal is remembered for seconds: no storm of requests', async () => {
    const { origin, hub, clock, repo } = await hubUnderTest({ repo: { access: 'gated' } })
    for (let i = 0; i < 5; i++) expect((await refusal(() => origin.resolve({ id: 'acme/sql' }))).code).toBe('forbidden')
    expect(hub.requests).toHaveLength(1)
    Object.assign(repo, { access: 'open' })
    clock.advance(1_001)
    await origin.resolve({ id: 'acme/sql' })
  })
})

describe('what is refused by name', () => {
  it('O01 a repository, a revision or a file that is not there', async () => {
    const { origin, folder } = await hubUnderTest()
    expect((await refusal(() => origin.resolve({ id: 'acme/nothing' }))).code).toBe('adapter_not_found')
    const noRevision = await refusal(() => origin.resolve({ id: 'acme/sql', revision: 'v9' }))
    expect([noRevision.code, noRevision.message]).toEqual(['adapter_not_found', expect.stringContaining('"acme/sql@v9"')])
    await rm(join(folder, 'adapter_config.json'))
    await rm(join(folder, weightsFile))
    expect((await refusal(() => origin.resolve({ id: 'acme/sql' }))).code).toBe('adapter_not_found')
  })

  it.each<[string, (folder: string) => Promise<unknown>, RegExp]>([
    ['C01 no config', (folder) => rm(join(folder, 'adapter_config.json')), /adapter_config\.json is missing/],
    ['O11 no weights yet', (folder) => rm(join(folder, weightsFile)), /adapter_model\.safetensors is missing/],
    [
      'S16 a pickle alone',
      (folder) => rename(join(folder, weightsFile), join(folder, 'adapter_model.bin')),
      /adapter_model\.bin, a pickle, which is never opened/,
    ],
    [
      'S15 weights in several files',
      (folder) => rename(join(folder, weightsFile), join(folder, `${weightsFile}.index.json`)),
      /split into several files/,
    ],
  ])('%s', async (_, change, message) => {
    const { origin, folder } = await hubUnderTest()
    await change(folder)
    const refused = await refusal(() => origin.resolve({ id: 'acme/sql' }))
    expect([refused.code, refused.message]).toEqual(['adapter_invalid', expect.stringMatching(message)])
  })

  it.each([
    [weightsFile, 5e9],
    ['adapter_config.json', 65_537],
  ])('S17 %s of %i bytes, before a byte of any file is read', async (name, size) => {
    const { origin, hub } = await hubUnderTest({
      repo: { listedBytes: (file, bytes) => (file === name ? size : bytes) },
    })
    const refused = await refusal(() => origin.resolve({ id: 'acme/sql' }))
    expect([refused.code, refused.message]).toEqual([
      'too_large',
      expect.stringContaining(`${name} at "acme/sql" has ${size} bytes`),
    ])
    expect(hub.requests.filter(({ path }) => path.includes('/resolve/'))).toEqual([])
  })

  it('C03 a rank above the maximum, before the weights are read', async () => {
    const { origin, contentOf } = await hubUnderTest({ adapter: { rank: 9 }, repo: { lfsBytes: 1e9 } })
    const refused = await refusal(() => origin.resolve({ id: 'acme/sql' }))
    expect([refused.code, refused.message]).toEqual(['adapter_invalid', expect.stringContaining('rank 9 exceeds')])
    expect(contentOf(weightsFile)).toBe(0)
  })
})

describe('a hub that fails', () => {
  it('O03 is asked again a few times, and then the failure hides its address from clients', async () => {
    const { origin, hub, timers } = await hubUnderTest()
    hub.fault = () => ({ kind: 'status', status: 503 })
    const refused = await refusal(() => origin.resolve({ id: 'acme/sql' }))
    expect([refused.code, refused.message]).toEqual(['source_unavailable', expect.not.stringContaining(hub.endpoint)])
    expect(JSON.stringify(refused.context)).toContain('503')
    expect(hub.requests).toHaveLength(5)
    expect(timers.delays.filter((delay) => delay < 10_000)).toEqual([500, 1000, 2000, 4000])
  })

  it('O08 that says nothing more is given up', async () => {
    const { origin, hub, timers, contentOf } = await hubUnderTest()
    const found = await origin.resolve({ id: 'acme/sql' })
    hub.fault = ({ origin: from }) => (from === 'cdn' ? { kind: 'stall', afterBytes: 10 } : undefined)
    const reading = refusal(() => found.fetch(signal))
    // The whole time for the file, whatever trickles in meanwhile.
    while (contentOf(weightsFile) < 1 || timers.waiting === 0) await new Promise((resolve) => setImmediate(resolve))
    const ended = reading.then(() => true)
    while (!(await Promise.race([ended, new Promise((resolve) => setImmediate(resolve)).then(() => false)]))) timers.expire()
    expect((await reading).code).toBe('source_unavailable')
  })

  it('O07 that gives other bytes than it lists is not believed', async () => {
    const { origin, hub } = await hubUnderTest()
    const found = await origin.resolve({ id: 'acme/sql' })
    hub.fault = ({ origin: from }) => (from === 'cdn' ? { kind: 'wrong-bytes' } : undefined)
    const refused = await refusal(() => found.fetch(signal))
    expect([refused.code, refused.context['reason']]).toEqual([
      'source_unavailable',
      expect.stringContaining('does not have the sha256 digest that the hub lists'),
    ])
  })

  it('a read that is called off ends as such', async () => {
    const { origin, hub } = await hubUnderTest()
    const found = await origin.resolve({ id: 'acme/sql' })
    const stop = new AbortController()
    hub.fault = ({ origin: from }) => {
      if (from === 'cdn') stop.abort()
      return from === 'cdn' ? { kind: 'stall', afterBytes: 0 } : undefined
    }
    expect((await refusal(() => found.fetch(stop.signal))).code).toBe('client_closed')
  })

  it('is told from one that cannot be reached at all by nothing a client sees', async () => {
    const { origin, hub } = await hubUnderTest()
    await hub.close()
    expect((await refusal(() => origin.resolve({ id: 'acme/sql' }))).code).toBe('source_unavailable')
  })
})
