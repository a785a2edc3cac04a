/** A chat template that was published with a version of an adapter. */
import { type AdapterDigest, type AdapterName, ServingError } from '@quiver/protocol'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type GatewayUnderTest, sqlDigest, startGateway } from '../support/gateway-under-test.ts'

const template = '{{ messages[0].content }}'
const versions: Readonly<Record<string, string | undefined>> = { plain: undefined, own: template }
const catalogue = {
  visibleTo: () => ({
    resolve: (text: string) => {
      if (!(text in versions)) throw new ServingError('adapter_not_found', `Adapter '${text}' is not known here.`)
      const chatTemplate = versions[text]
      const found = { name: text as AdapterName, digest: sqlDigest as AdapterDigest }
      return chatTemplate === undefined ? found : { ...found, chatTemplate }
    },
    latest: () => undefined,
    names: () => Object.keys(versions),
  }),
}

let under: GatewayUnderTest
beforeEach(async () => {
  under = await startGateway({}, { catalogue })
})
afterEach(() => under.close())

const CHAT = '/v1/chat/completions'
const messages = [{ role: 'user', content: 'Hi' }]
const sent = () => under.worker.requests.map(({ prompt }) => ('template' in prompt ? prompt.template : undefined))

test('goes to the worker with every conversation for that version, and with no other', async () => {
  await under.post(CHAT, { model: 'own', messages })
  await under.post(CHAT, { model: 'plain', messages })
  await under.post(CHAT, { model: '', messages })
  await under.post('/generate', { inputs: 'Hi', parameters: { adapter_id: 'own', apply_chat_template: true } })
  await under.post('/generate', { inputs: 'Hi', parameters: { adapter_id: 'own' } })
  await under.post('/v1/completions', { model: 'own', prompt: 'Hi' })
  expect(sent()).toEqual([template, undefined, undefined, template, undefined, undefined])
  expect(under.worker.requests[0]?.adapter).toEqual({ kind: 'registered', name: 'own', digest: sqlDigest })
})

test('is never a member of a merge', async () => {
  const merged_adapters = { ids: ['own', 'plain'], weights: [1, 1] }
  await under.post('/generate', { inputs: 'Hi', parameters: { merged_adapters, apply_chat_template: true } })
  expect(sent()).toEqual([undefined])
  expect(JSON.stringify(under.worker.requests[0]?.adapter)).not.toContain('emplate')
})

test('cannot come from a request', async () => {
  await under.post(CHAT, { model: 'plain', messages, template: 'x', chat_template: 'x', prompt: { template: 'x' } })
  await under.post('/generate', {
    inputs: 'Hi',
    parameters: { adapter_id: 'plain', apply_chat_template: true, chat_template: 'x', template: 'x' },
  })
  expect(sent()).toEqual([undefined, undefined])
})
