/** The servers that other tests run against do what those tests rely on. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { GetObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import { describe, expect, test } from 'vitest'
import { whenGone } from '../support/processes.ts'
import { type RedisServer, startRedisServer } from '../support/redis-server.ts'
import { s3ClientOf } from '../support/s3-server.ts'
import { freshBucket } from '../support/shared-s3.ts'

const root = path.join(import.meta.dirname, '../..')

/** One command in the inline form of the protocol, one line of answer. */
async function ask({ port }: RedisServer, command: string): Promise<string> {
  return await new Promise((resolve, reject) => {
    const socket = createConnection({ host: '127.0.0.1', port }, () => socket.write(`${command}\r\n`))
    socket.once('data', (answer) => {
      socket.destroy()
      resolve(answer.toString('latin1').trim())
    })
    socket.once('error', reject)
  })
}

const redisFolders = async () => (await readdir(tmpdir())).filter((name) => name.startsWith('quiver-redis-')).toSorted()

describe('a Redis server', () => {
  test('answers, is empty after a restart and gone with its folder after a stop', async () => {
    const before = await redisFolders()
    const redis = await startRedisServer()
    expect(await ask(redis, 'SET k v')).toBe('+OK')
    await redis.restart()
    expect(await ask(redis, 'GET k')).toBe('$-1')
    const { pid } = redis
    await redis.stop()
    await whenGone(pid, 2_000)
    await expect(ask(redis, 'PING')).rejects.toThrow('ECONNREFUSED')
    expect((await redisFolders()).filter((name) => !before.includes(name))).toEqual([])
  })

  test('keeps what it answered when it is durable and killed', async () => {
    const redis = await startRedisServer({ durable: true })
    try {
      await ask(redis, 'SET k v')
      await redis.kill()
      await expect(ask(redis, 'PING')).rejects.toThrow('ECONNREFUSED')
      await redis.restart()
      expect(await ask(redis, 'GET k')).toBe('$1\r\nv')
    } finally {
      await redis.stop()
    }
  })

  test('can be stopped while its time stands still', async () => {
    const redis = await startRedisServer()
    redis.pause()
    const { pid } = redis
    await redis.stop()
    await whenGone(pid, 2_000)
  })

  test('is gone, with its folder, when the process that started it is killed', async () => {
    const program = `
      import { startRedisServer } from './test/support/redis-server.ts'
      console.log((await startRedisServer()).pid)
      setInterval(() => {}, 1_000)`
    const starter = spawn(process.execPath, ['--input-type=module-typescript', '--eval', program], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const before = await redisFolders()
    const [line] = await once(createInterface({ input: starter.stdout }), 'line')
    const pid = Number(line)
    starter.kill('SIGKILL')
    expect(pid).toBeGreaterThan(0)
    await whenGone(pid, 2_000)
    await expect.poll(async () => (await redisFolders()).filter((name) => !before.includes(name))).toEqual([])
  })
})

describe('the S3 server', () => {
  test('keeps objects for who may write, gives them to who may read, and refuses everybody else', async () => {
    const { bucket, ...s3 } = await freshBucket()
    const writer = s3ClientOf(s3)
    const reader = s3ClientOf({ ...s3, writer: s3.reader })
    const stranger = s3ClientOf({ ...s3, writer: { ...s3.writer, secretAccessKey: 'guessed' } })
    const put = new PutObjectCommand({ Bucket: bucket, Key: 'k', Body: 'hello' })
    const get = new GetObjectCommand({ Bucket: bucket, Key: 'k' })
    await writer.send(put)
    expect(await (await reader.send(get)).Body?.transformToString()).toBe('hello')
    await expect(reader.send(put)).rejects.toMatchObject({ $metadata: { httpStatusCode: 403 } })
    await expect(stranger.send(get)).rejects.toMatchObject({ $metadata: { httpStatusCode: 403 } })
    for (const client of [writer, reader, stranger]) client.destroy()
  })

  test('verifies checksums', async () => {
    const { bucket, ...s3 } = await freshBucket()
    const client = s3ClientOf(s3)
    const wrong = new PutObjectCommand({ Bucket: bucket, Key: 'k', Body: 'hello', ChecksumSHA256: `${'A'.repeat(43)}=` })
    await expect(client.send(wrong)).rejects.toMatchObject({ $metadata: { httpStatusCode: 400 } })
    client.destroy()
  })

  test('is one for all who ask', async () => {
    const [first, second] = await Promise.all([freshBucket(), freshBucket()])
    expect(second.endpoint).toBe(first.endpoint)
    expect(second.bucket).not.toBe(first.bucket)
  })
})
