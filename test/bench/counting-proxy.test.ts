import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { CleanUp } from '../../bench/shared/clean-up.ts'
import { CountingProxy } from '../../bench/tiers/counting-proxy.ts'

async function proxied(): Promise<CountingProxy> {
  const server = createServer((request, response) => {
    request.toArray().then(
      (body) => {
        response.writeHead(request.url === '/missing' ? 404 : 200, { 'x-host': request.headers.host ?? '' })
        response.end(`${request.method} ${request.url} ${Buffer.concat(body)}`)
      },
      () => response.destroy(),
    )
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const cleanUp = new CleanUp()
  onTestFinished(async () => {
    await cleanUp.run()
    server.close()
  })
  return await CountingProxy.start(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, cleanUp)
}

test('passes requests on as they are and counts what is read, by path', async () => {
  const proxy = await proxied()
  const put = await fetch(`${proxy.url}/b/a?x=1`, { method: 'PUT', body: 'bytes' })
  expect([put.status, await put.text()]).toEqual([200, 'PUT /b/a?x=1 bytes'])
  expect(`http://${put.headers.get('x-host')}`).toBe(proxy.url)
  for (const path of ['/b/a', '/b/a?part=2', '/b/c']) await (await fetch(proxy.url + path)).text()
  expect((await fetch(`${proxy.url}/missing`)).status).toBe(404)
  expect([proxy.gets('/a'), proxy.gets('/c'), proxy.gets('/d')]).toEqual([2, 1, 0])
})
