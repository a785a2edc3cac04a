/** From the last upload to a bucket to an adapter that is served, told by the bucket's own webhook. */
import { randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import { CreateBucketCommand } from '@aws-sdk/client-s3'
import { expect, onTestFinished, test } from 'vitest'
import { startDropGateway } from '../support/drop-gateway.ts'
import { putDrop, readJsonObject, soundDrop } from '../support/drops.ts'
import { s3ClientOf } from '../support/s3-server.ts'
import { s3StoreAt } from '../support/s3-stores.ts'
import { startVersityGw } from '../support/versitygw.ts'

test('what is uploaded is servable although nobody looks at the folder', async () => {
  // The server wants the address before there is a gateway to go to.
  let gateway = ''
  const listener = createServer(async (incoming, outgoing) => {
    const body = Buffer.concat(await incoming.toArray())
    const type = incoming.headers['content-type'] ?? ''
    if (gateway === '') return void outgoing.end()
    try {
      const answer = await fetch(`${gateway}/admin/events/s3`, { method: 'POST', body, headers: { 'content-type': type } })
      statuses.add(answer.status)
      outgoing.writeHead(answer.status).end()
    } catch {
      // The gateway is closed before the server has told of everything.
      outgoing.destroy()
    }
  })
  const statuses = new Set<number>()
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
  const { port } = listener.address() as { port: number }
  const server = await startVersityGw({ webhook: `http://127.0.0.1:${port}/` })
  onTestFinished(async () => {
    await server.stop()
    listener.closeAllConnections()
    listener.close()
  })
  const bucket = `test-${randomBytes(8).toString('hex')}`
  const client = s3ClientOf(server)
  await client.send(new CreateBucketCommand({ Bucket: bucket }))
  client.destroy()
  const store = s3StoreAt({ ...server, bucket, prefix: 'quiver' })
  const under = await startDropGateway(store, `s3://${bucket}/quiver`)
  onTestFinished(() => under.close())
  gateway = under.url
  // The two looks of its start are over.
  await new Promise((resolve) => setTimeout(resolve, 1000))
  await putDrop(store, 'acme/sql', soundDrop(1))
  await expect.poll(() => under.catalogue.latest('acme/sql')?.version, { timeout: 10_000 }).toBe(1)
  await expect.poll(() => readJsonObject(store, 'drop/acme/sql/_PUBLISHED.json')).toMatchObject({ version: 1 })
  expect([...statuses]).toEqual([200])
})
