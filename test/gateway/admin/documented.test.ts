/** Administration as the OpenAPI document tells it: examples that are taken, answers that have no other fields. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { bodySchemas, routeTable } from '../../../packages/gateway/src/routes/openapi/route-table.ts'
import { type AdminUnderTest, smallAdapter, startAdmin, uploadForm } from '../../support/admin-under-test.ts'

let under: AdminUnderTest
beforeAll(async () => {
  const job = {
    id: 'x',
    kind: 'drop',
    name: 'a',
    state: 'rejected',
    reasons: ['no'],
    attempts: 1,
    createdAt: '2026-01-01T00:00:00.000Z',
  } as const
  under = await startAdmin({ jobs: { recent: async () => [job] } })
  const at = '/admin/adapters/acme%2Fa'
  const fields = { metadata: '{"run":"1"}', pin: 'true' }
  for (const n of [1, 2]) await under.ask('PUT', `${at}/upload`, uploadForm(smallAdapter(n), fields))
  await under.ask('PUT', `${at}/upload`, uploadForm({ ...smallAdapter(1), config: Buffer.from('{}') }))
  await under.ask('PUT', `${at}/canary`, { version: 1, share_percent: 5 })
  await under.store.put('catalogue/acme@a/broken.json', Buffer.from('{'))
})
afterAll(() => under.close())

test.each([
  ['AdapterPage', 'GET', '/admin/adapters', undefined],
  ['AdapterState', 'GET', '/admin/adapters/acme%2Fa', undefined],
  ['AdapterState', 'POST', '/admin/adapters/acme%2Fa/pin', undefined],
  ['AuditPage', 'GET', '/admin/audit', undefined],
  ['JobList', 'GET', '/admin/jobs', undefined],
  ['ProblemList', 'GET', '/admin/problems', undefined],
  ['AdminError', 'GET', '/admin/adapters/nothing', undefined],
  ['UploadSession', 'PUT', '/admin/adapters/b/upload/adapter_config.json', smallAdapter(1).config],
  ['PublishedAdapter', 'PUT', '/admin/adapters/b/upload', uploadForm(smallAdapter(1), { metadata: '{"a":"b"}' })],
  ['VllmError', 'POST', '/v1/load_lora_adapter', {}],
  ['SglangAnswer', 'POST', '/load_lora_adapter', {}],
] as const)('%s of %s %s has no field that its schema does not name', async (name, method, path, body) => {
  const { json } = await under.ask(method, path, body)
  expect(bodySchemas[name].parse(json)).toEqual(json)
})

test('every example is what its schema takes, and every route is answered by administration', async () => {
  const routes = routeTable.filter(({ family }) => family === 'admin' || family === 'vllm' || family === 'sglang')
  expect(routes.length).toBeGreaterThan(20)
  for (const { method, path, request, requestType } of routes) {
    if (request !== undefined && requestType === undefined)
      expect(bodySchemas[request.body].safeParse(request.example).success, path).toBe(true)
    const route = path.replace('{name}', 'acme%2Fnone').replace('{alias}', 'stable').replace('{file}', 'adapter_config.json')
    const { status, text } = await under.ask(method.toUpperCase() as 'GET', route, request?.example)
    expect(status, `${method} ${path}`).toBeLessThan(500)
    expect(text, `${method} ${path}`).not.toContain('There is no such route')
  }
})
