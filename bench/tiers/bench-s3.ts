/** An S3 server beside a bench, as the tests start it, and Quiver's own store in it. */
import { randomUUID } from 'node:crypto'
import { CreateBucketCommand } from '@aws-sdk/client-s3'
import { S3Store } from '@quiver/cache/store'
import { nodeTimers } from '@quiver/worker'
import { type S3Access, s3ClientOf, startS3Server } from '../../test/support/s3-server.ts'
import type { BenchContext } from '../bench.ts'

const BUCKET = 'bench'

export interface BenchS3 {
  readonly access: S3Access
  readonly bucket: string
  /** A folder of the bucket as an object store; its connections end with the bench. */
  store(folder: string): S3Store
  /** Settings of a server whose store that folder is, by way of another endpoint where one is given. */
  settings(folder: string, endpoint?: string): Readonly<Record<string, string>>
  stop(): Promise<void>
}

/** Starts SeaweedFS on loopback with an empty bucket. It ends with the bench, however that ends. */
export async function startBenchS3({ cleanUp, progress }: BenchContext): Promise<BenchS3> {
  progress('starting an S3 server')
  const server = await startS3Server()
  const stores: S3Store[] = []
  const stop = cleanUp.add({
    async undo() {
      for (const store of stores) store.close()
      await server.stop()
    },
    // Its guard ends it when this process is gone.
    undoNow: () => {},
  })
  const client = s3ClientOf(server)
  await client.send(new CreateBucketCommand({ Bucket: BUCKET }))
  client.destroy()
  const { endpoint, region, writer, reader } = server
  return {
    access: { endpoint, region, writer, reader },
    bucket: BUCKET,
    store(folder) {
      const store = new S3Store(
        `s3://${BUCKET}/${folder}`,
        { endpoint, region, credentials: async () => writer },
        { clock: { nowMs: () => performance.now() }, timers: nodeTimers, random: Math.random, uniqueId: randomUUID },
      )
      stores.push(store)
      return store
    },
    settings: (folder, by = endpoint) => ({
      QUIVER_STORE: `s3://${BUCKET}/${folder}`,
      QUIVER_S3_ENDPOINT: by,
      QUIVER_S3_REGION: region,
      AWS_ACCESS_KEY_ID: writer.accessKeyId,
      AWS_SECRET_ACCESS_KEY: writer.secretAccessKey,
    }),
    stop,
  }
}
