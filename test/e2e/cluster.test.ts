/** Two gateways, three workers, Redis and S3 as real processes, and what happens when one of them goes, stands still or comes. */
import { request } from 'undici'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { busyness, type Cluster, type ClusterProcess, startCluster, until } from '../support/cluster.ts'
import { post } from '../support/gateway-under-test.ts'
import { QuiverProcess } from '../support/quiver-server.ts'

let cluster: Cluster
beforeAll(async () => {
  cluster = await startCluster()
  await Promise.all([cluster.startWorker(), cluster.startWorker(), cluster.startWorker()])
  await cluster.publish(6)
  await Promise.all([cluster.startGateway(), cluster.startGateway()])
  await cluster.settled()
})
afterAll(() => cluster.stop())

const adapters = ['a0', 'a1', 'a2', 'a3', 'a4', 'a5']
const ask = (adapter: string | undefined, tokens = 4) => ({
  inputs: 'abc',
  parameters: { max_new_tokens: tokens, ignore_eos_token: true, ...(adapter === undefined ? {} : { adapter_id: adapter }) },
})
const gatewayAt = (index: number): ClusterProcess => {
  const gateway = cluster.gateways[index % cluster.gateways.length]
  if (gateway === undefined) throw new Error('there is no gateway')
  return gateway
}
const generate = (index: number, adapter: string | undefined, tokens?: number) =>
  post(`${gatewayAt(index).url}/generate`, ask(adapter, tokens))

/** The worker that has this id. */
async function workerCalled(id: string): Promise<ClusterProcess> {
  const listed = (await cluster.listed(gatewayAt(0))).find((worker) => worker.id === id)
  const found = cluster.workers.find(({ url }) => url === listed?.address)
  if (found === undefined) throw new Error(`there is no worker ${id}`)
  return found
}

/** Starts another worker in place of one that has gone. */
async function replace(gone: ClusterProcess): Promise<void> {
  cluster.workers.splice(cluster.workers.indexOf(gone), 1)
  await cluster.startWorker()
  await cluster.settled()
}

/** Sends requests one after another in several lanes, to gateways that say they are well, until it is told to stop. */
function traffic(lanes = 4, tokens = 4) {
  let isOver = false
  const failures: string[] = []
  let sent = 0
  const lane = async (number: number): Promise<void> => {
    for (let round = number; !isOver; round++) {
      const gateway = gatewayAt(round)
      if ((await request(`${gateway.url}/health`).catch(() => undefined))?.statusCode !== 200) continue
      sent += 1
      const answer = await post(`${gateway.url}/generate`, ask(adapters[round % adapters.length], tokens)).catch(
        (error: unknown) => error,
      )
      if (answer instanceof Error) failures.push(String(answer.cause ?? answer))
      else if ((answer as Awaited<ReturnType<typeof post>>).status !== 200) failures.push(JSON.stringify(answer))
    }
  }
  const running = Promise.all(Array.from({ length: lanes }, (_, number) => lane(number)))
  return {
    failures,
    get sent() {
      return sent
    },
    async stop() {
      isOver = true
      await running
    },
  }
}

/** A stream as its events come. */
async function openStream(gateway: ClusterProcess, adapter: string, tokens: number) {
  const { body, headers } = await request(`${gateway.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: adapter, prompt: 'abc', max_tokens: tokens, stream: true, ignore_eos_token: true }),
  })
  const chunks = body[Symbol.asyncIterator]()
  return { chunks, workerId: String(headers['x-worker-id']) }
}

describe('requests for an adapter', () => {
  test('go to the worker that has it, whichever gateway they come to', async () => {
    const homes = new Map<string, unknown>()
    for (const [index, adapter] of adapters.entries()) {
      const first = await generate(index, adapter)
      expect(first.status).toBe(200)
      homes.set(adapter, first.headers['x-worker-id'])
    }
    const answers = []
    for (let round = 0; round < 120; round++) {
      const adapter = adapters[round % adapters.length] ?? ''
      const { status, headers } = await generate(round >> 1, adapter)
      expect(status).toBe(200)
      answers.push({ placement: headers['x-placement'], isHome: headers['x-worker-id'] === homes.get(adapter) })
    }
    const resident = answers.filter(({ placement }) => placement === 'resident').length
    expect(resident / answers.length).toBeGreaterThanOrEqual(0.99)
    expect(answers.filter(({ isHome }) => isHome).length / answers.length).toBeGreaterThanOrEqual(0.9)
    expect(new Set(homes.values()).size).toBeGreaterThan(1)
  })

  test('are explained, and workers are listed with what they hold', async () => {
    const { headers } = await generate(0, 'a0')
    const explained = await (await fetch(`${gatewayAt(1).url}/admin/explain?adapter=a0`)).json()
    const home = await workerCalled(String(headers['x-worker-id']))
    expect(explained).toMatchObject({
      adapter: 'a0',
      choice: { address: home.url, placement: 'resident' },
      candidates: expect.arrayContaining([expect.objectContaining({ address: home.url, presence: 'device' })]),
    })
    const listed = await cluster.listed(gatewayAt(1))
    expect(listed.find(({ address }) => address === home.url)).toMatchObject({
      base: 'llama-fp32-tied',
      slots: expect.arrayContaining([expect.objectContaining({ digest: headers['x-adapter-digest'] })]),
      ram_bytes: expect.any(Number),
      disk_bytes: expect.any(Number),
      speed: { prompt_tokens_per_second: expect.any(Number) },
    })
  })
})

describe('a worker', () => {
  test('W01 that is killed before the first token: its requests are run on others', async () => {
    const { headers } = await generate(0, 'a1')
    const home = await workerCalled(String(headers['x-worker-id']))
    home.process.signal('SIGSTOP')
    const answers = Array.from({ length: 4 }, (_, index) => generate(index, 'a1'))
    // They are at the worker now, which does not move.
    await until(async () => (await cluster.listed(gatewayAt(0))).length > 0, 'the gateway answers')
    home.process.signal('SIGKILL')
    for (const answer of await Promise.all(answers)) {
      expect(answer.status).toBe(200)
      expect(answer.headers['x-worker-id']).not.toBe(headers['x-worker-id'])
    }
    await replace(home)
  })

  test('W02 that is killed in the middle of a stream: it ends with an error event and without [DONE]', async () => {
    const { chunks, workerId } = await openStream(gatewayAt(0), 'a2', 400)
    let text = String((await chunks.next()).value)
    const home = await workerCalled(workerId)
    home.process.signal('SIGKILL')
    for await (const chunk of { [Symbol.asyncIterator]: () => chunks }) text += chunk
    expect(text).toContain('"code":"worker_lost"')
    expect(text).not.toContain('[DONE]')
    await replace(home)
  })

  test('W03 that stands still gets nothing more, what it had not begun is run elsewhere, and it is back when it goes on', async () => {
    const { headers } = await generate(0, 'a3')
    const home = await workerCalled(String(headers['x-worker-id']))
    home.process.signal('SIGSTOP')
    const held = await generate(0, 'a3')
    expect([held.status, held.headers['x-worker-id'] === headers['x-worker-id']]).toEqual([200, false])
    const stateOf = async () => (await cluster.listed(gatewayAt(0))).find(({ address }) => address === home.url)?.state
    expect(await stateOf()).toBe('silent')
    home.process.signal('SIGCONT')
    await cluster.settled()
  })

  test('G07 that is far slower than the others is left out for a while, and requests go on', async () => {
    const { headers } = await generate(0, 'a4')
    const home = await workerCalled(String(headers['x-worker-id']))
    // It runs a twentieth of the time.
    let isOver = false
    const slowed = (async () => {
      while (!isOver) {
        home.process.signal('SIGSTOP')
        await new Promise((resolve) => setTimeout(resolve, 380))
        home.process.signal('SIGCONT')
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    })()
    const load = traffic(6, 12)
    const isOut = async (gateway: ClusterProcess) =>
      (await cluster.listed(gateway)).some(({ address, state }) => address === home.url && state === 'ejected')
    await until(async () => (await isOut(gatewayAt(0))) || (await isOut(gatewayAt(1))), 'a gateway leaves the slow worker out')
    await load.stop()
    isOver = true
    await slowed
    expect(load.failures).toEqual([])
    // It is itself again: a request that is tried goes well.
    const again = traffic(2)
    await cluster.settled()
    await again.stop()
    expect(again.failures).toEqual([])
  })

  test('joins and gets its share', async () => {
    const joined = await cluster.startWorker()
    await cluster.settled()
    const load = traffic(12)
    await until(async () => (await busyness(joined)) > 0, 'the new worker has something to do')
    await load.stop()
    expect(load.failures).toEqual([])
    // An operator takes it out again: through one gateway, for all.
    const id = (await cluster.listed(gatewayAt(0))).find(({ address }) => address === joined.url)?.id
    expect((await post(`${gatewayAt(0).url}/admin/workers/${id}/drain`, {})).json).toEqual({ id, state: 'draining' })
    for (const gateway of cluster.gateways) {
      await until(
        async () => (await cluster.listed(gateway)).some((worker) => worker.id === id && worker.state === 'draining'),
        'every gateway has heard that the worker is drained',
      )
    }
    joined.process.signal('SIGTERM')
    expect((await joined.process.exit).code).toBe(0)
    cluster.workers.splice(cluster.workers.indexOf(joined), 1)
    await cluster.settled()
  })
})

describe('Redis', () => {
  test('R10 R02 that is flushed or restarted empty in traffic: no request fails, and workers are registered again', async () => {
    const load = traffic()
    await until(async () => load.sent > 20, 'requests are sent')
    await cluster.flushRedis()
    await until(async () => load.sent > 40, 'requests are sent after the flush')
    await cluster.redis.kill()
    await until(async () => load.sent > 60, 'requests are sent without Redis')
    await cluster.redis.restart()
    await until(async () => load.sent > 80, 'requests are sent after the restart')
    await load.stop()
    expect(load.failures).toEqual([])
    // A gateway that knows nobody finds them all.
    const newcomer = await cluster.startGateway()
    await cluster.settled()
    newcomer.process.signal('SIGTERM')
    expect((await newcomer.process.exit).code).toBe(0)
    cluster.gateways.splice(cluster.gateways.indexOf(newcomer), 1)
  })
})

describe('a gateway', () => {
  test('G03 that is killed: the workers stop computing for it, and the others go on', async () => {
    const [, doomed] = cluster.gateways
    if (doomed === undefined) throw new Error('there are two gateways')
    const streams = await Promise.all(adapters.slice(0, 3).map((adapter) => openStream(doomed, adapter, 480)))
    for (const { chunks } of streams) await chunks.next()
    doomed.process.signal('SIGKILL')
    const idle = async () => (await Promise.all(cluster.workers.map(busyness))).every((count) => count === 0)
    await until(idle, 'no worker computes for a gateway that is gone', 5_000)
    for (const { chunks } of streams) await Promise.resolve(chunks.return?.()).catch(() => undefined)
    cluster.gateways.splice(cluster.gateways.indexOf(doomed), 1)
    expect((await generate(0, 'a0')).status).toBe(200)
    await cluster.startGateway()
    await cluster.settled()
  })
})

test.each([
  ['gateway', {}, 'no workers are named'],
  ['gateway', { QUIVER_WORKERS: 'http://10.0.0.7:8090' }, 'QUIVER_WORKER_TOKEN must be set to use http://10.0.0.7:8090'],
  ['worker', { QUIVER_WORKER_HOST: '0.0.0.0' }, 'QUIVER_WORKER_TOKEN must be set to listen on 0.0.0.0'],
] as const)(
  'a %s that is set up so that it could not be used, or be used by anybody, says so and ends',
  async (command, env, why) => {
    const refused = await QuiverProcess.start({ command, env })
    expect((await refused.exit).code).not.toBe(0)
    expect(refused.output).toContain(why)
    await refused.stop()
  },
)

test('G09 every process is replaced under load, one after another, and no request fails', async () => {
  const load = traffic()
  for (const old of [...cluster.workers]) {
    await cluster.startWorker()
    await cluster.settled()
    old.process.signal('SIGTERM')
    expect((await old.process.exit).code).toBe(0)
    cluster.workers.splice(cluster.workers.indexOf(old), 1)
  }
  for (const old of [...cluster.gateways]) {
    await cluster.startGateway()
    await cluster.settled()
    old.process.signal('SIGTERM')
    expect((await old.process.exit).code).toBe(0)
    cluster.gateways.splice(cluster.gateways.indexOf(old), 1)
  }
  await load.stop()
  expect(load.failures).toEqual([])
  expect(load.sent).toBeGreaterThan(100)
})
