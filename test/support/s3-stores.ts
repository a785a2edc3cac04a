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

type Where = Pick<S3Access, 'endpoint' | 'region' | 'writer'> & { readonly bucket: string; readonly prefix?: string }

/** An S3Store for a test: `where.endpoint` may be a proxy's. Its connections end with the test. */
export function s3StoreAt(where: Where, options: S3StoreOptions = {}): S3Store {
  const store = s3StoreFor(where, options)
  onTestFinished(() => store.close())
  return store
}

/** The same for several tests, which close it. */
export function s3StoreFor(where: Where, options: S3StoreOptions = {}): S3Store {
  const { endpoint, region, writer, bucket, prefix = '' } = where
  return new S3Store(
    `s3://${bucket}/${prefix}`,
    { endpoint, region, credentials: async () => writer, ...options },
    { clock: { nowMs: () => performance.now() }, timers: realTimers, random: Math.random, uniqueId: randomUUID },
  )
}
