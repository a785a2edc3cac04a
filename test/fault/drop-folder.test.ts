/** The drop folder with a real bucket and a real Redis, and a publisher that is killed again and again. */
import { hash } from 'node:crypto'
import { mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { inspectAdapter } from '@quiver/cache/format'
import { storedAdapterKeys } from '@quiver/cache/store'
import { systemClock } from '@quiver/gateway'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { forEachAtMost } from '../../packages/gateway/src/at-most.ts'
import { connectRedis } from '../../packages/gateway/src/redis/redis-connection.ts'
import { RedisJobQueue } from '../../packages/gateway/src/redis/redis-job-queue.ts'
import { tinyLayout } from '../support/adapter-files.ts'
import { freshCatalogue } from '../support/catalogues.ts'
import { brokenDrops, keysBelow, putDrop, readJsonObject, soundDrop } from '../support/drops.ts'
import { GuardedProcess } from '../support/guarded-process.ts'
import { randomFrom, randomSeed } from '../support/random-seed.ts'
import { type RedisServer, startRedisServer } from '../support/redis-server.ts'
import { s3StoreAt } from '../support/s3-stores.ts'
import { freshFolder } from '../support/shared-s3.ts'

let redis: RedisServer
beforeAll(async () => {
  redis = await startRedisServer()
})
afterAll(async () => await redis?.stop())

const AT_ONCE = 16
/** How long a publisher lives after it has begun to look, at least and at most. */
const LIFE_MS = [100, 900] as const

interface Dropped {
  readonly name: string
  readonly files: Readonly<Record<string, Uint8Array>>
  /** What its refusal has to say; absent for a sound one. */
  readonly reason?: RegExp
}

/** Each sound one with weights of its own; some with wishes, some with `_READY`. */
function makeDrops(sound: number, broken: number, random: () => number): Dropped[] {
  const ready = () => (random() < 0.3 ? { _READY: new Uint8Array() } : {})
  const text = (value: object) => new TextEncoder().encode(JSON.stringify(value))
  const good = Array.from({ length: sound }, (_, n): Dropped => {
    const wishes =
      n % 5 === 0 ? { 'quiver.json': text({ alias: ['latest', 'stable'], pin: true, metadata: { n: String(n) } }) } : {}
    return { name: n % 3 === 0 ? `team-${n % 7}/sub/a${n}` : `a${n}`, files: { ...wishes, ...soundDrop(n), ...ready() } }
  })
  const bad = Array.from({ length: broken }, (_, n): Dropped => {
    const kind = brokenDrops[n % brokenDrops.length]
    if (kind === undefined) throw new Error('there are broken ones')
    return { name: `broken/b${n}`, files: { ...kind.files, ...ready() }, reason: kind.reason }
  })
  return [...good, ...bad]
    .map((drop) => ({ drop, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ drop }) => drop)
}

async function startPublisher(env: Readonly<Record<string, string>>) {
  const folder = await mkdtemp(join(tmpdir(), 'quiver-drops-'))
  const publisher = await GuardedProcess.start({
    command: process.execPath,
    args: [join(import.meta.dirname, '../support/drop-publisher-process.ts')],
    folder,
    env,
  })
  onTestFinished(() => publisher.stop())
  const log = async () => await readFile(join(folder, 'log'), 'utf8').catch(() => '')
  return {
    publisher,
    log,
    async whenStarted(times: number) {
      const starts = async () => (await log()).split('\n').filter((line) => line === 'started').length
      await expect.poll(starts, { timeout: 30_000, interval: 20, message: await log() }).toBe(times)
    },
  }
}

interface Given {
  readonly sound: number
  readonly broken: number
  readonly kills: number
  readonly redisUrl: string
  /** How many jobs a killed publisher left in their middle. */
  readonly interrupted: (address: string) => Promise<number>
}

/** Uploads in as many parts as there are kills, each part while the publisher is down or just up again. @returns jobs that a kill met */
async function publishThroughKills(given: Given): Promise<number> {
  const random = randomFrom(randomSeed('kills of the publisher'))
  const drops = makeDrops(given.sound, given.broken, random)
  const place = await freshFolder()
  const store = s3StoreAt(place)
  const { writer, endpoint, bucket, prefix, region } = place
  const upload = async (part: readonly Dropped[]) =>
    await forEachAtMost(AT_ONCE, part, async ({ name, files }) => await putDrop(store, name, files))
  const address = `s3://${bucket}/${prefix}`
  let interrupted = 0
  const size = Math.ceil(drops.length / (given.kills + 1))
  const part = (n: number) => drops.slice(n * size, (n + 1) * size)
  await upload(part(0))
  const { publisher, whenStarted, log } = await startPublisher({
    ...{ STORE: address, ENDPOINT: endpoint, REDIS: given.redisUrl },
    ...{ AWS_ACCESS_KEY_ID: writer.accessKeyId, AWS_SECRET_ACCESS_KEY: writer.secretAccessKey, AWS_REGION: region },
  })
  for (let kill = 1; kill <= given.kills; kill++) {
    await whenStarted(kill)
    const uploading = upload(part(kill))
    await pause(LIFE_MS[0] + random() * (LIFE_MS[1] - LIFE_MS[0]))
    await publisher.kill()
    interrupted += await given.interrupted(address)
    await uploading
    await publisher.startAgain()
  }
  const waiting = async () => {
    const keys = await keysBelow(store, 'drop/')
    const done = new Set(
      keys.filter((key) => /\/_(PUBLISHED|REJECTED)\.json$/.test(key)).map((key) => key.replace(/\/[^/]*$/, '')),
    )
    return drops.length - done.size + keys.filter((key) => /\/_(CLEARING\.json|READY)$/.test(key)).length
  }
  await expect
    .poll(waiting, { timeout: 60_000, interval: 200 })
    .toBe(0)
    .catch(async (error: unknown) => {
      throw new Error((await log()).slice(-4000), { cause: error })
    })
  await publisher.kill()
  const catalogue = await freshCatalogue(store)
  expect(catalogue.names()).toEqual(drops.flatMap(({ name, reason }) => (reason === undefined ? [name] : [])).sort())
  const digests = new Set<string>()
  const expectPublished = async ({ name, files }: Dropped): Promise<void> => {
    const { 'adapter_config.json': config = new Uint8Array(), 'adapter_model.safetensors': weights = new Uint8Array() } = files
    const { digest } = await inspectAdapter(config, new Uint8Array(weights), tinyLayout, 8)
    digests.add(digest)
    const entry = catalogue.entry(name)
    expect([...(entry?.versions.values() ?? [])], name).toMatchObject([{ version: 1, digest }])
    const isSpecial = files['quiver.json'] !== undefined
    expect(entry?.record.isPinned).toBe(isSpecial)
    const aliases = [...(entry?.record.aliases ?? [])].map(([alias, { version }]) => `${alias}@${version}`)
    expect(aliases).toEqual(isSpecial ? ['latest@1', 'stable@1'] : ['latest@1'])
    expect(await readJsonObject(store, `drop/${name}/_PUBLISHED.json`)).toMatchObject({ name, version: 1, digest })
    const keys = storedAdapterKeys(digest)
    expect(Buffer.compare((await store.get(keys.weights)).bytes, weights), name).toBe(0)
    expect(Buffer.compare((await store.get(keys.config)).bytes, config), name).toBe(0)
  }
  const expectRejected = async ({ name, files, reason }: Dropped): Promise<void> => {
    const note = await readJsonObject(store, `drop/${name}/_REJECTED.json`)
    expect(String(note?.['reasons']), name).toMatch(reason ?? /$^/)
    const left = (await keysBelow(store, `drop/${name}/`)).map((key) => key.slice(`drop/${name}/`.length)).sort()
    expect(left).toEqual([...Object.keys(files).filter((file) => file !== '_READY'), '_REJECTED.json'].sort())
  }
  await forEachAtMost(AT_ONCE, drops, (drop) => (drop.reason === undefined ? expectPublished(drop) : expectRejected(drop)))
  expect(digests.size).toBe(given.sound)
  // Nothing that no version refers to was left, and nothing of a published drop but the note about it.
  expect((await keysBelow(store, 'adapters/')).length).toBe(2 * given.sound)
  const left = (await keysBelow(store, 'drop/')).filter((key) => !key.startsWith('drop/broken/'))
  expect(left.every((key) => key.endsWith('/_PUBLISHED.json'))).toBe(true)
  return interrupted
}

/** Jobs that somebody has begun and not ended. */
async function runningJobs(address: string): Promise<number> {
  const clock = systemClock()
  const log = () => {}
  const connection = connectRedis(redis.url, { clock, log, random: Math.random })
  const scope = hash('sha256', address, 'hex').slice(0, 12)
  const queue = new RedisJobQueue({ redis: connection, scope, clock, log, now: () => new Date() })
  await expect.poll(() => queue.queue !== undefined).toBe(true)
  const jobs = await queue.recent(500)
  await queue.close()
  await connection.close()
  return jobs.filter(({ state }) => state === 'running').length
}

describe('a publisher that is killed at random', { timeout: 300_000 }, () => {
  it('publishes 180 of 200 drops under their own weights and rejects 20 for their own reasons, each once, with Redis', async () => {
    const given = { sound: 180, broken: 20, kills: 10, redisUrl: redis.url }
    // Some of the kills must have met somebody at work, or this proves nothing.
    expect(await publishThroughKills({ ...given, interrupted: runningJobs })).toBeGreaterThan(2)
  })

  it('does the same without Redis, from the folder alone', async () => {
    await publishThroughKills({ sound: 36, broken: 4, kills: 3, redisUrl: '', interrupted: async () => 0 })
  })
})
