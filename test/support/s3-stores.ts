import { randomUUID } from 'node:crypto'
import { S3Store, type S3StoreOptions } from '@quiver/cache/store'
import { onTestFinished } from 'vitest'
import type { S3Access } from './s3-server.ts'

const realTimers = {
  after(delayMs: number, callback: () => void) {
    const timer = setTimeout(callback, delayMs)
    return () => clearTimeout(timer)
  },
}

/** An S3Store for a test: `where.endpoint` may be a proxy's. Its connections end with the test. */
export function s3StoreAt(
  where: Pick<S3Access, 'endpoint' | 'region' | 'writer'> & { readonly bucket: string; readonly prefix?: string },
  options: S3StoreOptions = {},
): S3Store {
  const { endpoint, region, writer, bucket, prefix = '' } = where
  const store = new S3Store(
    `s3://${bucket}/${prefix}`,
    { endpoint, region, credentials: async () => writer, ...options },
    { clock: { nowMs: () => performance.now() }, timers: realTimers, random: Math.random, uniqueId: randomUUID },
  )
  onTestFinished(() => store.close())
  return store
}
