/** Adapters that are dropped into a real bucket, served by a real server with the default model. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ObjectStore } from '@quiver/cache/store'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { keysBelow, putDrop, readJsonObject } from '../support/drops.ts'
import { post } from '../support/gateway-under-test.ts'
import { type GoldenCase, goldenCases } from '../support/golden.ts'
import { type QuiverServer, startQuiver } from '../support/quiver-server.ts'
import { type RedisServer, startRedisServer } from '../support/redis-server.ts'
import { s3StoreFor } from '../support/s3-stores.ts'
import { freshFolder, type S3Bucket } from '../support/shared-s3.ts'

const names = ['sentiment', 'shout', 'support-json', 'text-to-sql'] as const
const asJson = (value: object) => new TextEncoder().encode(JSON.stringify(value))

async function exampleFiles(name: string) {
  const file = (one: string) => readFile(join(import.meta.dirname, '../../examples/adapters', name, one))
  return {
    'adapter_config.json': new Uint8Array(await file('adapter_config.json')),
    'adapter_model.safetensors': new Uint8Array(await file('adapter_model.safetensors')),
  }
}

let redis: RedisServer
let server: QuiverServer
let place: S3Bucket & { readonly prefix: string }
let store: ObjectStore & { close(): void }
beforeAll(async () => {
  redis = await startRedisServer()
  place = await freshFolder()
  store = s3StoreFor(place)
  server = await startQuiver({
    env: {
      QUIVER_STORE: `s3://${place.bucket}/${place.prefix}`,
      QUIVER_S3_ENDPOINT: place.endpoint,
      QUIVER_S3_REGION: place.region,
      QUIVER_REDIS: redis.url,
      QUIVER_DROP_INTERVAL_MS: '500',
      AWS_ACCESS_KEY_ID: place.writer.accessKeyId,
      AWS_SECRET_ACCESS_KEY: place.writer.secretAccessKey,
    },
  })
})
afterAll(async () => {
  await server?.stop()
  await redis?.stop()
  store?.close()
})

const ask = async (model: string, { prompt, token_ids }: GoldenCase) =>
  await post(`${server.url}/generate`, {
    inputs: prompt,
    parameters: { adapter_id: model, max_new_tokens: token_ids.length },
  })
const published = async (name: string) => await readJsonObject(store, `drop/${name}/_PUBLISHED.json`)

describe('what is dropped into a bucket', () => {
  test('is found by looking, and answers with its own weights under its aliases, pinned and loaded as it was wished', async () => {
    const stable = asJson({ alias: ['latest', 'stable'], pin: true, prewarm: true, metadata: { team: 'data' } })
    for (const name of names) {
      const options = name === 'shout' ? { 'quiver.json': stable } : {}
      await putDrop(store, `team/${name}`, { ...options, ...(await exampleFiles(name)) })
    }
    for (const name of names) {
      await expect.poll(() => published(`team/${name}`), { timeout: 30_000 }).toMatchObject({ version: 1 })
      for (const golden of goldenCases.filter(({ adapter }) => adapter === name)) {
        const answer = await ask(name === 'shout' ? 'team/shout@stable' : `team/${name}`, golden)
        expect(answer.json, answer.text).toEqual({ generated_text: golden.text })
      }
    }
    const shown = await fetch(`${server.url}/admin/adapters/${encodeURIComponent('team/shout')}`)
    const { residency, ...state } = (await shown.json()) as Record<string, unknown>
    expect(state).toMatchObject({ pinned: true, versions: [{ metadata: { team: 'data' }, source: { type: 'drop' } }] })
    expect(await published('team/shout')).not.toHaveProperty('prewarm')
    expect(await keysBelow(store, 'drop/team/')).toEqual(names.map((name) => `drop/team/${name}/_PUBLISHED.json`))
  })

  test('is refused with its reason where it does not fit, and stays', async () => {
    const { 'adapter_config.json': config, ...rest } = await exampleFiles('shout')
    const fields = JSON.parse(new TextDecoder().decode(config))
    await putDrop(store, 'team/broken', { ...rest, 'adapter_config.json': asJson({ ...fields, use_dora: true }) })
    const note = () => readJsonObject(store, 'drop/team/broken/_REJECTED.json')
    await expect.poll(note, { timeout: 30_000 }).toMatchObject({
      code: 'adapter_invalid',
      reasons: [expect.stringContaining('DoRA')],
    })
    const jobs = await fetch(`${server.url}/admin/jobs`)
    const list = (await jobs.json()) as { jobs: readonly { name: string; state: string; reasons: string[] }[] }
    expect(list.jobs.find(({ name }) => name === 'team/broken')).toMatchObject({
      state: 'rejected',
      reasons: [expect.stringContaining('DoRA')],
    })
    // Mended, it is taken.
    await store.put('drop/team/broken/adapter_config.json', config)
    await expect.poll(() => published('team/broken'), { timeout: 30_000 }).toMatchObject({ version: 1 })
    await expect.poll(note).toBeUndefined()
  })

  test('is shown on the page about the queue', async () => {
    const page = await fetch(`${server.url}/admin/queues`)
    expect([page.status, await page.text()]).toEqual([200, expect.stringContaining('Quiver')])
    const queues = await fetch(`${server.url}/admin/queues/api/queues`)
    expect(await queues.json()).toMatchObject({ queues: [{ name: 'drops', readOnlyMode: true, counts: { failed: 0 } }] })
  })
})
