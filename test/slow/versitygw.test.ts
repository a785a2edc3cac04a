/** The S3 store against a second server, and what that one says of changes. */
import { randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import { CreateBucketCommand, DeleteObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { z } from 'zod'
import { describeObjectStore } from '../cache/store/object-store-conformance.ts'
import { s3ClientOf } from '../support/s3-server.ts'
import { s3StoreAt } from '../support/s3-stores.ts'
import { startVersityGw, type VersityServer } from '../support/versitygw.ts'

const eventSchema = z.object({
  Records: z.array(
    z.object({
      eventName: z.string(),
      s3: z.object({
        bucket: z.object({ name: z.string() }),
        object: z.object({ key: z.string(), size: z.number().optional() }),
      }),
    }),
  ),
})

const told: z.output<typeof eventSchema>['Records'] = []
const listener = createServer(async (request, response) => {
  const parsed = eventSchema.safeParse(JSON.parse(Buffer.concat(await request.toArray()).toString()))
  // Its first message is a test of the address.
  if (parsed.success) told.push(...parsed.data.Records)
  response.end()
})
let server: VersityServer

beforeAll(async () => {
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
  const { port } = listener.address() as { port: number }
  server = await startVersityGw({ webhook: `http://127.0.0.1:${port}/events` })
})

afterAll(async () => {
  await server?.stop()
  listener.closeAllConnections()
  listener.close()
})

async function freshBucket(): Promise<string> {
  const bucket = `test-${randomBytes(8).toString('hex')}`
  const client = s3ClientOf(server)
  await client.send(new CreateBucketCommand({ Bucket: bucket }))
  client.destroy()
  return bucket
}

describeObjectStore("a bucket of Versity's", async () => s3StoreAt({ ...server, bucket: await freshBucket() }, { pageKeys: 2 }))

describe('its webhook', () => {
  it("tells of every object that comes and goes, in S3's format", async () => {
    const bucket = await freshBucket()
    const client = s3ClientOf(server)
    onTestFinished(() => client.destroy())
    await client.send(new PutObjectCommand({ Bucket: bucket, Key: 'drop/a b+c/config.json', Body: '{}' }))
    await client.send(new DeleteObjectCommand({ Bucket: bucket, Key: 'drop/a b+c/config.json' }))
    const ours = () => told.filter(({ s3 }) => s3.bucket.name === bucket)
    await expect.poll(() => ours().length, { timeout: 10_000 }).toBe(2)
    // Not quite that format: Amazon encodes keys as in a form. Whoever is told must take the key for a hint and look for himself.
    expect(ours().map(({ eventName, s3 }) => [eventName, s3.object.key])).toEqual([
      ['s3:ObjectCreated:Put', 'drop/a b+c/config.json'],
      ['s3:ObjectRemoved:Delete', 'drop/a b+c/config.json'],
    ])
  })
})
