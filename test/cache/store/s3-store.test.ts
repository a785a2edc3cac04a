import { createHash, randomBytes } from 'node:crypto'
import { ListMultipartUploadsCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import { type ObjectStore, S3Store } from '@quiver/cache/store'
import { describe, expect, it, onTestFinished } from 'vitest'
import { ManualClock } from '../../support/manual-clock.ts'
import { refusal } from '../../support/refusal.ts'
import { s3ClientOf } from '../../support/s3-server.ts'
import { s3StoreAt } from '../../support/s3-stores.ts'
import { freshBucket, freshFolder, type S3Bucket } from '../../support/shared-s3.ts'
import { describeObjectStore } from './object-store-conformance.ts'

const text = (value: string): Uint8Array => new TextEncoder().encode(value)
const read = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)
const MIB = 2 ** 20

async function keysOf(store: ObjectStore, prefix: string): Promise<readonly string[]> {
  const keys: string[] = []
  for await (const { key } of store.list(prefix)) keys.push(key)
  return keys
}

function clientOf(bucket: S3Bucket) {
  const client = s3ClientOf(bucket)
  onTestFinished(() => client.destroy())
  return client
}

// The server of the tests lists folder by folder, as its files lie. Pages of two, so that every listing has several.
describeObjectStore('a prefix of a bucket', async () => s3StoreAt(await freshFolder(), { pageKeys: 2 }), 'folders')

describe('an S3 store', () => {
  it('keeps what is below its prefix and sees nothing else', async () => {
    const bucket = await freshBucket()
    const [whole, part] = [s3StoreAt(bucket), s3StoreAt({ ...bucket, prefix: 'a' })]
    await whole.put('a/k', text('in'))
    await whole.put('a-b/k', text('out'))
    expect(read((await part.get('k')).bytes)).toBe('in')
    expect(await keysOf(part, '')).toEqual(['k'])
    await part.delete('k')
    expect(await keysOf(whole, '')).toEqual(['a-b/k'])
  })

  it('O14 passes over keys that no path or URL should have, and lists beyond them', async () => {
    const bucket = await freshBucket()
    const client = clientOf(bucket)
    const put = (Key: string) => client.send(new PutObjectCommand({ Bucket: bucket.bucket, Key, Body: 'x' }))
    for (const key of ['d/a b', 'd/.hidden', 'd/ü%2F', 'd/x', 'd/z?', 'd/../../etc/x']) await put(key).catch(() => undefined)
    expect(await keysOf(s3StoreAt(bucket, { pageKeys: 1 }), 'd/')).toEqual(['d/x'])
    // The server of the tests does not find the place after such a key, so this is one page.
    await put('d/\u0001')
    expect(await keysOf(s3StoreAt(bucket), 'd/')).toEqual(['d/x'])
  })

  it('sends large objects in parts, gives them back whole and leaves no part behind', async () => {
    const bucket = await freshBucket()
    const store = s3StoreAt(bucket, { sizes: { wholeBytes: 6 * MIB, partBytes: 5 * MIB } })
    const bytes = randomBytes(12 * MIB + 1)
    const { etag } = await store.put('large', bytes, { ifNoneMatch: '*' })
    const object = await store.get('large')
    expect(object.etag).toBe(etag)
    expect(Buffer.compare(object.bytes, bytes)).toBe(0)
    expect(
      Buffer.compare(
        (await store.get('large', { range: { start: 5 * MIB - 1, end: 5 * MIB + 1 } })).bytes,
        bytes.subarray(5 * MIB - 1, 5 * MIB + 1),
      ),
    ).toBe(0)
    expect((await refusal(() => store.put('large', bytes, { ifNoneMatch: '*' }))).code).toBe('conflict')
    expect((await refusal(() => store.put('large', bytes, { ifMatch: '"0"' }))).code).toBe('conflict')
    expect((await store.put('large', bytes.subarray(1), { ifMatch: etag })).etag).not.toBe(etag)
    const left = await clientOf(bucket).send(new ListMultipartUploadsCommand({ Bucket: bucket.bucket }))
    expect(left.Uploads ?? []).toEqual([])
  })

  it('O07 refuses bytes that are not those of the sha256 that was written with them', async () => {
    const bucket = await freshBucket()
    const sha256 = createHash('sha256').update('other').digest('hex')
    await clientOf(bucket).send(
      new PutObjectCommand({ Bucket: bucket.bucket, Key: 'k', Body: 'bytes', Metadata: { 'quiver-sha256': sha256 } }),
    )
    const error = await refusal(() => s3StoreAt(bucket, { retry: { ...quick, attempts: 2 } }).get('k'))
    expect([error.code, error.context['reason'], error.context['attempts']]).toEqual([
      'source_unavailable',
      'bytes that do not have their checksum',
      2,
    ])
  })

  it('O10 refuses objects that are stored compressed, and unpacks nothing', async () => {
    const bucket = await freshBucket()
    await clientOf(bucket).send(new PutObjectCommand({ Bucket: bucket.bucket, Key: 'k', Body: 'bytes', ContentEncoding: 'gzip' }))
    const error = await refusal(() => s3StoreAt(bucket).get('k'))
    expect([error.code, error.message]).toEqual(['source_unavailable', 'object k is stored as "gzip": publish it uncompressed'])
  })

  it('O02 tells an operator that its keys are refused, at once, and a client no names of hosts and buckets', async () => {
    const bucket = await freshBucket()
    const stranger = s3StoreAt({ ...bucket, writer: { ...bucket.writer, secretAccessKey: 'guessed' } })
    const reader = s3StoreAt({ ...bucket, writer: bucket.reader })
    for (const attempt of [() => stranger.get('k'), () => stranger.put('k', text('x')), () => reader.put('k', text('x'))]) {
      const { code, message, context } = await refusal(attempt)
      expect([code, context['status'], context['attempts']]).toEqual(['source_unavailable', 403, 1])
      expect(message).toMatch(/^the store refuses (reading|writing) object k: check its credentials/)
      expect(message).not.toContain(bucket.bucket)
      expect([context['bucket'], context['endpoint']]).toEqual([bucket.bucket, bucket.endpoint])
    }
  })

  it('says that the bucket is missing, not the object', async () => {
    const bucket = await freshBucket()
    const store = s3StoreAt({ ...bucket, bucket: 'no-such-bucket' })
    expect((await refusal(() => store.get('k'))).message).toBe('the bucket of the object store does not exist')
    expect((await refusal(() => keysOf(store, ''))).code).toBe('source_unavailable')
  })

  it('ends a read at once when its reader leaves', async () => {
    const bucket = await freshBucket()
    const store = s3StoreAt(bucket)
    await store.put('k', randomBytes(MIB))
    const leaving = new AbortController()
    const reading = refusal(() => store.get('k', { signal: leaving.signal }))
    leaving.abort()
    expect((await reading).code).toBe('client_closed')
    expect((await refusal(() => store.get('k', { signal: AbortSignal.abort() }))).code).toBe('client_closed')
  })

  it.each([
    's3://',
    's3:///x',
    's3://Bucket',
    's3://b',
    's3://bucket/a/../b',
    's3://user@bucket/x',
    's3://bucket/a b',
    'https://bucket/x',
  ])('is not opened at %s', (url) => {
    const clock = new ManualClock()
    const deps = { clock, timers: clock, random: () => 0, uniqueId: () => 'id' }
    expect(() => new S3Store(url, {}, deps)).toThrow('write s3://bucket or s3://bucket/prefix')
  })
})

const quick = { attempts: 5, budgetMs: 10_000, firstPauseMs: 1, longestPauseMs: 5 }
