/** What a bucket's webhook and an operator's browser find. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type DropGateway, startDropGateway } from '../../support/drop-gateway.ts'
import { brokenDrops, putDrop, readJsonObject, soundDrop } from '../../support/drops.ts'
import { startGateway } from '../../support/gateway-under-test.ts'
import { MemoryStore } from '../../support/memory-store.ts'

let store: MemoryStore
let under: DropGateway
beforeEach(async () => {
  store = new MemoryStore()
  under = await startDropGateway(store, 's3://models/quiver')
})
afterEach(() => under.close())

const record = (key: string, bucket = 'models') => ({
  eventName: 's3:ObjectCreated:Put',
  s3: { bucket: { name: bucket }, object: { key } },
})
const tell = async (...keys: string[]) => await under.post('/admin/events/s3', { Records: keys.map((key) => record(key)) })
const job = async (name: string) => (await under.drops.jobs.recent(10)).find((one) => one.name === name)

test('an event of a bucket makes what was dropped servable without a look at the whole folder', async () => {
  await putDrop(store, 'acme/sql', soundDrop(1))
  const answer = await tell('quiver/drop/acme/sql/adapter_config.json', 'quiver/drop/acme%2Fsql/adapter_model.safetensors')
  expect([answer.status, answer.json]).toEqual([200, { looking_at: ['acme/sql'] }])
  await expect.poll(() => job('acme/sql')).toMatchObject({ state: 'published', version: 1 })
  expect(under.catalogue.resolve('acme/sql').name).toBe('acme/sql')
})

test('with _READY nothing is waited for, and a refusal is told with its reasons', async () => {
  const [broken] = brokenDrops
  await putDrop(store, 'a', { ...broken?.files, _READY: new Uint8Array() })
  await tell('quiver/drop/a/_READY')
  await expect
    .poll(() => job('a'), { timeout: 350 })
    .toMatchObject({ state: 'rejected', reasons: [expect.stringMatching(broken?.reason ?? /$^/)] })
  expect(await readJsonObject(store, 'drop/a/_REJECTED.json')).toMatchObject({ code: 'adapter_invalid' })
})

test('events of other buckets and folders, tests of the address and records of another kind are answered and passed over', async () => {
  for (const body of [
    { Service: 'Amazon S3', Event: 's3:TestEvent', Bucket: 'models' },
    {
      Records: [
        record('quiver/drop/a/adapter_config.json', 'others'),
        record('drop/a/adapter_config.json'),
        record('quiver/dropped/a/quiver.json'),
      ],
    },
    { Records: [record('quiver/drop/a/README.md'), record('quiver/drop/%zz/quiver.json'), { dynamodb: {} }, 7] },
  ]) {
    const answer = await under.post('/admin/events/s3', body)
    expect([answer.status, answer.json]).toEqual([200, { looking_at: [] }])
  }
})

test('what is no event is refused', async () => {
  for (const body of ['[]', '{"Records": 7}', '"x"', '{']) {
    const answer = await under.post('/admin/events/s3', body)
    expect([answer.status, answer.json]).toMatchObject([400, { error_type: 'invalid_request' }])
  }
})

test('without Redis there is no page about the queue, and without administration no route', async () => {
  expect((await fetch(`${under.url}/admin/queues`)).status).toBe(404)
  const plain = await startGateway()
  expect((await plain.post('/admin/events/s3', {})).status).toBe(404)
  await plain.close()
})

test('with keys, neither a bucket nor a browser gets in without one', async () => {
  const closed = await startGateway({}, { adminKey: 'the admin key' })
  for (const path of ['/admin/events/s3', '/admin/queues', '/admin/queues/api/queues']) {
    expect((await fetch(closed.url + path, { method: path.endsWith('s3') ? 'POST' : 'GET' })).status).toBe(401)
  }
  await closed.close()
})
