/** Adapters that nobody has registered, from the hub and from a bucket, through real processes. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { eventsOf, post } from '../support/gateway-under-test.ts'
import { goldenCases } from '../support/golden.ts'
import { firstCommit } from '../support/hub-adapters.ts'
import { startHub } from '../support/hub-server.ts'
import { startQuiver } from '../support/quiver-server.ts'
import { s3StoreAt } from '../support/s3-stores.ts'
import { freshBucket } from '../support/shared-s3.ts'

const shout = join(import.meta.dirname, '../../examples/adapters/shout')
const files = ['adapter_config.json', 'adapter_model.safetensors']
const golden = goldenCases.find(({ adapter }) => adapter === 'shout')
const body = (parameters: Record<string, unknown>) => ({
  inputs: golden?.prompt ?? '',
  parameters: { max_new_tokens: 20, ...parameters },
})

test('a private adapter of the hub and one of a bucket answer with their own weights, for who may have them, and no token is told', async () => {
  const hub = await startHub({
    'acme/shout': { commits: { [firstCommit]: shout }, refs: { main: firstCommit }, access: 'private', readers: ['hf_alice'] },
  })
  const { bucket, ...s3 } = await freshBucket()
  const store = s3StoreAt({ bucket, ...s3 })
  for (const name of files) {
    await store.put(`team/shout/${name}`, await readFile(join(shout, name)))
    onTestFinished(() => store.delete(`team/shout/${name}`))
  }
  const server = await startQuiver({
    env: {
      HF_ENDPOINT: hub.endpoint,
      HF_TOKEN: '',
      QUIVER_S3_BUCKETS: `${bucket}/team`,
      QUIVER_S3_ENDPOINT: s3.endpoint,
      QUIVER_S3_REGION: s3.region,
      AWS_ACCESS_KEY_ID: s3.reader.accessKeyId,
      AWS_SECRET_ACCESS_KEY: s3.reader.secretAccessKey,
    },
  })
  onTestFinished(async () => void (await server.stop()))
  const registered = await post(`${server.url}/generate`, body({ adapter_id: 'shout' }))
  const digest = registered.headers['x-adapter-digest']
  const mine = { adapter_id: 'acme/shout', adapter_source: 'hub', api_token: 'hf_alice' }
  for (const parameters of [mine, { adapter_id: `s3://${bucket}/team/shout`, adapter_source: 's3' }]) {
    const answer = await post(`${server.url}/generate`, body(parameters))
    expect(answer.json).toEqual({ generated_text: golden?.text })
    expect([answer.headers['x-adapter-digest'], answer.headers['x-adapter-source']]).toEqual([digest, parameters.adapter_source])
  }

  // Its weights are in memory now; that gives nobody else the right to them.
  for (const api_token of ['hf_mallory', undefined]) {
    const refused = await post(`${server.url}/generate_stream`, body({ ...mine, api_token }))
    expect(eventsOf(refused.text)).toEqual([
      { error: expect.stringContaining('no adapter "acme/shout@main"'), error_type: 'generation' },
    ])
  }
  const outside = await post(`${server.url}/generate`, body({ adapter_id: `${bucket}/other/shout`, adapter_source: 's3' }))
  expect([outside.status, outside.json]).toMatchObject([424, { error_type: 'generation' }])
  const metrics = await fetch(`${server.url}/metrics`)
  const told = [server.process.output, await metrics.text(), registered.text, outside.text].join('\n')
  for (const secret of ['hf_alice', 'hf_mallory', s3.reader.secretAccessKey]) expect(told).not.toContain(secret)
})
