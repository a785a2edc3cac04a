import { randomBytes } from 'node:crypto'
import { CreateBucketCommand, DeleteBucketCommand } from '@aws-sdk/client-s3'
import { inject, onTestFinished } from 'vitest'
import { type S3Access, s3ClientOf } from './s3-server.ts'
import type {} from './shared-services.ts'

export interface S3Bucket extends S3Access {
  readonly bucket: string
}

/** The S3 server that all tests share, started when the first of them asks. Never harm it: use `startS3Server` for that. */
export async function sharedS3(): Promise<S3Access> {
  const response = await fetch(`${inject('services')}/s3`)
  if (!response.ok) throw new Error(`no S3 server for the tests: ${await response.text()}`)
  return (await response.json()) as S3Access
}

/** An empty folder in a bucket that all tests share: at once there, where a fresh bucket costs the server 0.2 s. */
export async function freshFolder(): Promise<S3Bucket & { readonly prefix: string }> {
  const access = await sharedS3()
  const client = s3ClientOf(access)
  await client.send(new CreateBucketCommand({ Bucket: 'shared' })).catch((error: Error) => {
    if (!error.name.startsWith('BucketAlready')) throw error
  })
  client.destroy()
  return { ...access, bucket: 'shared', prefix: `test-${randomBytes(8).toString('hex')}` }
}

/** A fresh bucket on the shared server. It goes away with the test that asked for it. */
export async function freshBucket(): Promise<S3Bucket> {
  const access = await sharedS3()
  const bucket = `test-${randomBytes(8).toString('hex')}`
  const client = s3ClientOf(access)
  await client.send(new CreateBucketCommand({ Bucket: bucket }))
  onTestFinished(async () => {
    await client.send(new DeleteBucketCommand({ Bucket: bucket }))
    client.destroy()
  })
  return { ...access, bucket }
}
