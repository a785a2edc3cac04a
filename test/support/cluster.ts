/** Gateways and workers as processes of their own, over a real Redis and a real S3 server, with a model that is loaded in no time. */
import { join } from 'node:path'
import { Catalogue, publishAdapter, systemClock } from '@quiver/gateway'
import { type AdapterName, type WorkerInfo, workerInfoSchema } from '@quiver/protocol'
import { request } from 'undici'
import { z } from 'zod'
import { connectRedis } from '../../packages/gateway/src/redis/redis-connection.ts'
import { buildAdapter } from './adapter-files.ts'
import { cacheFolder, QuiverProcess } from './quiver-server.ts'
import { type RedisServer, startRedisServer } from './redis-server.ts'
import { s3StoreFor } from './s3-stores.ts'
import { freshFolder } from './shared-s3.ts'
import { tinyModelsFolder } from './tiny-models.ts'

export interface ClusterProcess {
  readonly url: string
  readonly process: QuiverProcess
}

const workersSchema = z.object({
  workers: z.array(
    z.looseObject({ id: z.string().nullable(), address: z.string(), state: z.string(), running: z.int(), waiting: z.int() }),
  ),
})
export type ListedWorker = z.infer<typeof workersSchema>['workers'][number]

export interface Cluster {
  readonly redis: RedisServer
  readonly gateways: ClusterProcess[]
  readonly workers: ClusterProcess[]
  startGateway(env?: Readonly<Record<string, string>>): Promise<ClusterProcess>
  startWorker(env?: Readonly<Record<string, string>>): Promise<ClusterProcess>
  /** What a gateway knows of its workers. */
  listed(gateway: ClusterProcess): Promise<readonly ListedWorker[]>
  /** Resolves when every gateway knows exactly these workers as ready. */
  settled(): Promise<void>
  flushRedis(): Promise<void>
  /** Adapters `a0`, `a1`… that fit the model. */
  publish(count: number): Promise<void>
  stop(): Promise<void>
}

const TOKEN = 'a secret of the tests'
/** Long enough for a gateway to hear of it on a machine that is busy. */
const DRAIN_DELAY_MS = 1_500

export async function startCluster(): Promise<Cluster> {
  const { bucket, prefix, endpoint, region, writer, ...s3 } = await freshFolder()
  const redis = await startRedisServer()
  const store = s3StoreFor({ ...s3, bucket, prefix, endpoint, region, writer })
  const common = {
    QUIVER_REDIS: redis.url,
    QUIVER_STORE: `s3://${bucket}/${prefix}`,
    QUIVER_S3_ENDPOINT: endpoint,
    QUIVER_S3_REGION: region,
    AWS_ACCESS_KEY_ID: writer.accessKeyId,
    AWS_SECRET_ACCESS_KEY: writer.secretAccessKey,
    QUIVER_WORKER_TOKEN: TOKEN,
    QUIVER_MODEL: join(tinyModelsFolder, 'llama-fp32-tied'),
    QUIVER_DRAIN_DELAY_MS: String(DRAIN_DELAY_MS),
    QUIVER_LORA: 'standard',
    QUIVER_THREADS: '1',
    QUIVER_SLOTS: '4',
    QUIVER_SEQUENCES: '8',
    QUIVER_TOTAL_TOKENS: '512',
    QUIVER_WORKER_PORT: '0',
    QUIVER_CACHE: cacheFolder(),
  }
  const gateways: ClusterProcess[] = []
  const workers: ClusterProcess[] = []
  const start = async (command: 'gateway' | 'worker', pattern: RegExp, env: Readonly<Record<string, string>>) => {
    const started = await QuiverProcess.start({ command, env: { ...common, ...env } })
    try {
      const [, url = ''] = await started.whenWritten(pattern)
      return { url, process: started }
    } catch (error) {
      await started.stop()
      throw error
    }
  }
  const cluster: Cluster = {
    redis,
    gateways,
    workers,
    async startGateway(env = {}) {
      const gateway = await start('gateway', /gateway is ready: (\S+)/, env)
      gateways.push(gateway)
      return gateway
    },
    async startWorker(env = {}) {
      const worker = await start('worker', /the worker is ready \{"url":"([^"]+)"/, env)
      workers.push(worker)
      return worker
    },
    async listed({ url }) {
      const response = await request(`${url}/admin/workers`)
      return workersSchema.parse(await response.body.json()).workers
    },
    async settled() {
      const wanted = workers.map(({ url }) => url).toSorted()
      for (const gateway of gateways) {
        let found: readonly ListedWorker[] = []
        const isSettled = async () => {
          found = await cluster.listed(gateway)
          const ready = found.filter(({ state }) => state === 'ready').map(({ address }) => address)
          return JSON.stringify(ready.toSorted()) === JSON.stringify(wanted)
        }
        await until(isSettled, () => `${gateway.url} knows ${wanted.join(', ')}, and not ${JSON.stringify(found)}`)
      }
    },
    async flushRedis() {
      const connection = connectRedis(redis.url, { log: () => {}, random: Math.random, clock: systemClock() })
      await connection.isReadyWithin(5_000)
      await connection.client.flushall()
      await connection.close()
    },
    async publish(count) {
      const [first] = workers
      if (first === undefined) throw new Error('there is no worker to publish for')
      const { layout, limits } = await infoOf(first)
      const catalogue = new Catalogue(store)
      for (let index = 0; index < count; index++) {
        const { config, weights } = buildAdapter({ layout, rank: 4, alpha: 4 + index, targets: ['q_proj', 'v_proj'] })
        await publishAdapter(
          { name: `a${index}` as AdapterName, config, weights, layout, maxRank: limits.maxRank },
          { store, catalogue, now: () => new Date() },
        )
      }
    },
    async stop() {
      await Promise.all(
        [...gateways, ...workers].map(async ({ process: one }) => {
          one.signal('SIGCONT')
          one.signal('SIGKILL')
          await one.stop()
        }),
      )
      await redis.stop()
      await store.close()
    },
  }
  return cluster
}

export async function infoOf({ url }: ClusterProcess): Promise<WorkerInfo> {
  const response = await request(`${url}/v1/info`, { headers: { authorization: `Bearer ${TOKEN}` } })
  return workerInfoSchema.parse(await response.body.json())
}

/** Sequences that a worker runs or keeps waiting, as it says itself. */
export async function busyness({ url }: ClusterProcess): Promise<number> {
  const response = await request(`${url}/v1/state`, { headers: { authorization: `Bearer ${TOKEN}` } })
  const { running, waiting } = z.object({ running: z.int(), waiting: z.int() }).parse(await response.body.json())
  return running + waiting
}

/** Looks again and again at what no process tells by itself. @throws Error after half a minute */
export async function until(isSo: () => Promise<boolean>, what: string | (() => string), withinMs = 30_000): Promise<void> {
  for (const begun = performance.now(); !(await isSo().catch(() => false)); ) {
    if (performance.now() - begun > withinMs)
      throw new Error(`it did not come about that ${typeof what === 'string' ? what : what()}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
