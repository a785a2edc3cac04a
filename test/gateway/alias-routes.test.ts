/** Aliases and canaries through the public routes: which weights a request is sent to the worker with. */
import { CatalogueEditor } from '@quiver/gateway'
import { parseAdapterName } from '@quiver/protocol'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { freshCatalogue, publishedAt, publishTo } from '../support/catalogues.ts'
import { type GatewayUnderTest, startGateway } from '../support/gateway-under-test.ts'
import { MemoryStore } from '../support/memory-store.ts'

const a = parseAdapterName('acme/a')
const by = { actor: { tenant: 'ops' } }

let under: GatewayUnderTest
let editor: CatalogueEditor
/** Digests of versions 1 and 2; latest is 2. */
let digests: readonly string[]
beforeEach(async () => {
  const store = new MemoryStore()
  const catalogue = await freshCatalogue(store)
  editor = new CatalogueEditor({ catalogue, now: () => publishedAt })
  const first = await publishTo(store, catalogue, a, 1)
  const second = await publishTo(store, catalogue, a, 2)
  digests = [first.manifest.digest, second.manifest.digest]
  under = await startGateway({}, { catalogue })
})
afterEach(() => under.close())

/** The version whose weights the last run was given. */
function lastVersion(): number {
  const adapter = under.worker.requests.at(-1)?.adapter
  return adapter?.kind === 'registered' ? digests.indexOf(adapter.digest) + 1 : 0
}

const chat = (model: string, user?: string) =>
  under.post('/v1/chat/completions', {
    model,
    messages: [{ role: 'user', content: 'Hi' }],
    ...(user === undefined ? {} : { user }),
  })
const generate = (id: string, headers?: Record<string, string>) =>
  under.post('/generate', { inputs: 'Hi', parameters: { adapter_id: id } }, headers)

test('an alias means on every route what it was last moved to, and a retired adapter is not there', async () => {
  await editor.moveAlias(a, 'stable', 1, by)
  for (const send of [chat, generate]) {
    expect([(await send('acme/a@stable')).status, lastVersion()]).toEqual([200, 1])
    expect([(await send('acme/a')).status, lastVersion()]).toEqual([200, 2])
  }
  await editor.moveAlias(a, 'stable', 2, by)
  for (const send of [chat, generate]) expect([(await send('acme/a@stable')).status, lastVersion()]).toEqual([200, 2])
  await editor.retire(a, by)
  expect([(await chat('acme/a')).status, (await generate('acme/a@stable')).status]).toEqual([404, 424])
})

test('a canary answers the same users on every request, and without a user each request by itself', async () => {
  await editor.setCanary(a, { version: 1, sharePercent: 50 }, by)
  const ofUser = new Map<string, number>()
  for (let n = 0; n < 24; n++) {
    const user = `user-${n % 12}`
    await chat('acme/a', user)
    expect(lastVersion()).toBe(ofUser.get(user) ?? lastVersion())
    ofUser.set(user, lastVersion())
  }
  expect(new Set(ofUser.values())).toEqual(new Set([1, 2]))
  const ofRequest = new Set<number>()
  for (let n = 0; n < 24; n++) {
    await generate('acme/a', { 'x-request-id': `request-${n}` })
    ofRequest.add(lastVersion())
  }
  expect(ofRequest).toEqual(new Set([1, 2]))
})
