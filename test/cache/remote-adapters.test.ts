/** Adapters of the hub and of buckets on their way through the tiers. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { inspectAdapter } from '@quiver/cache/format'
import { memberName } from '@quiver/protocol'
import { expect, it } from 'vitest'
import { buildAdapter, tinyLayout } from '../support/adapter-files.ts'
import { cacheUnderTest } from '../support/cache-under-test.ts'
import { hubUnderTest } from '../support/hub-adapters.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { refusal } from '../support/refusal.ts'

async function remotes() {
  const upstream = await hubUnderTest({ repo: { access: 'private', readers: ['hf_alice'] } })
  const [bucket, timers] = [new MemoryStore(), new ManualClock()]
  const { config, weights } = buildAdapter({ alpha: 9 })
  await bucket.put('sql/adapter_config.json', config)
  await bucket.put('sql/adapter_model.safetensors', weights)
  const remote = {
    hub: { endpoint: upstream.hub.endpoint },
    buckets: { allowed: ['models'], open: async () => bucket },
    fetch,
    timers,
  }
  const log: unknown[] = []
  const under = await cacheUnderTest({}, 3, { remote, log: (...line) => log.push(line) })
  return { ...upstream, bucket, under, logged: () => JSON.stringify(log) }
}

const mine = { kind: 'hub', id: 'acme/sql', token: 'hf_alice' } as const

it('a hub id and a bucket folder are resolved to their digests, loaded and kept in the tiers', async () => {
  const { under, contentOf } = await remotes()
  for (const [ref, alpha] of [
    [mine, 4],
    [{ kind: 's3', uri: 's3://models/sql' } as const, 9],
  ] as const) {
    const { config, weights } = buildAdapter({ alpha })
    const identity = await under.cache.resolve(ref)
    expect(identity).toEqual({ digest: (await inspectAdapter(config, weights, tinyLayout, 8)).digest, name: memberName(ref) })
    const lease = under.cache.lease(identity)
    await lease.ready
    expect(lease.packed.digest).toBe(identity.digest)
    lease.release()
  }
  const reads = contentOf('adapter_model.safetensors')
  const again = under.cache.lease(await under.cache.resolve(mine))
  await again.ready
  again.release()
  expect(contentOf('adapter_model.safetensors')).toBe(reads)
})

it("one tenant's private adapter is not another's, though its weights are in memory", async () => {
  const { under } = await remotes()
  const lease = under.cache.lease(await under.cache.resolve(mine))
  await lease.ready
  for (const token of ['hf_mallory', undefined]) {
    const ref = { kind: 'hub', id: 'acme/sql', ...(token === undefined ? {} : { token }) } as const
    expect((await refusal(() => under.cache.resolve(ref))).code).toBe('adapter_not_found')
  }
  lease.release()
})

it('they are members of merges like any other, and a member that may not be read is named without its token', async () => {
  const { under } = await remotes()
  const members = [
    { ref: mine, weight: 0.5 },
    { ref: { kind: 's3', uri: 'models/sql' } as const, weight: 0.5 },
  ]
  const merge = { kind: 'merged', strategy: 'linear', density: 1, sign: 'total' } as const
  const lease = under.cache.lease(await under.cache.resolve({ ...merge, members }))
  await lease.ready
  lease.release()
  const stranger = { ref: { ...mine, token: 'hf_mallory' }, weight: 1 }
  const refused = await refusal(() => under.cache.resolve({ ...merge, members: [stranger] }))
  expect([refused.code, refused.message]).toEqual(['adapter_not_found', expect.stringContaining('"acme/sql" cannot be merged')])
})

it('no token is logged, whatever goes wrong', async () => {
  const { under, hub, folder, logged } = await remotes()
  const identity = await under.cache.resolve(mine)
  hub.fault = () => ({ kind: 'status', status: 403 })
  await writeFile(join(folder, 'adapter_model.safetensors'), 'other bytes')
  const lease = under.cache.lease(identity)
  await refusal(() => lease.ready)
  lease.release()
  expect(logged()).toContain('cannot be loaded')
  expect(logged()).not.toContain('hf_alice')
})

it('a worker without them refuses both by name', async () => {
  const { cache } = await cacheUnderTest()
  const [hub, s3] = await Promise.all([
    refusal(() => cache.resolve(mine)),
    refusal(() => cache.resolve({ kind: 's3', uri: 'models/sql' })),
  ])
  expect([hub.code, hub.message, s3.code, s3.message]).toEqual([
    'forbidden',
    'adapters from the hub are switched off on this worker',
    'forbidden',
    'adapters from S3 are switched off on this worker',
  ])
})
