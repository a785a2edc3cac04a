import type { LookupFunction } from 'node:net'
import { Agent } from 'undici'
import { expect, test } from 'vitest'
import { connectWorker } from '../../../packages/gateway/src/worker/worker-client.ts'
import { runRequest } from '../../support/batch-harness.ts'
import { refusal } from '../../support/refusal.ts'
import { ScriptedWorker } from '../../support/scripted-worker.ts'

const lookupBoth: LookupFunction = (_name, _options, callback) =>
  callback(null, [
    { address: '127.0.0.1', family: 4 },
    { address: '127.0.0.2', family: 4 },
  ])

// Of a name with several addresses Node tells the failures of all in one error, which no system call is named in: the request ended
// as a fault of the gateway's own, and was not run again.
test('a worker whose name has several addresses, none of which answers any more, is a worker that was lost', async () => {
  const worker = await ScriptedWorker.start()
  const dispatcher = new Agent({ connect: { lookup: lookupBoth } })
  const url = worker.url.replace('127.0.0.1', 'worker.test')
  const client = await connectWorker({ url, token: worker.token }, dispatcher)
  await worker.close()
  const { signal } = new AbortController()
  expect((await refusal(() => client.run(runRequest(), signal).next())).code).toBe('worker_lost')
  expect((await refusal(() => client.drain(signal))).code).toBe('worker_lost')
  await dispatcher.destroy()
})
