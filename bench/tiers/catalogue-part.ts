/**
 * A catalogue of 10,000 adapters: how long a gateway takes to read it, from a folder, from S3, and from S3 with Redis' copies; how
 * much memory it takes; and how fast it answers from there.
 */
import { randomUUID } from 'node:crypto'
import { FolderStore, type ObjectStore } from '@quiver/cache/store'
import { Catalogue, RedisHotCopy, systemClock } from '@quiver/gateway'
import type { AdapterName } from '@quiver/protocol'
import { connectRedis } from '../../packages/gateway/src/redis/redis-connection.ts'
import { startRedisServer } from '../../test/support/redis-server.ts'
import type { BenchContext } from '../bench.ts'
import { temporaryFolder } from '../shared/clean-up.ts'
import { type Figure, measured } from '../shared/figure.ts'
import { heapBytes } from '../shared/heap.ts'
import { timed } from '../shared/interleave.ts'
import { drawBelow, type Random, seededRandom, shuffled } from '../shared/random.ts'
import { summarise } from '../shared/statistics.ts'
import { startBenchS3 } from './bench-s3.ts'
import { measureListedPages } from './listed-pages.ts'
import { catalogueObjects, manyNames, writeToFolder, writeToStore } from './many-adapters.ts'

const ADAPTERS = 10_000
const GROUP = `A catalogue of ${ADAPTERS} adapters`
/** Of a first look at S3, where every object is one request. */
const QUICK_S3_ADAPTERS = 1000
const REDIS_READY_MS = 10_000
const PAGES = 50
const PAGE_SIZES = [100, 1000] as const

export async function measureCatalogue(context: BenchContext): Promise<Figure[]> {
  const folder = await temporaryFolder(context.cleanUp)
  const names = manyNames(ADAPTERS)
  context.progress(`writing a catalogue of ${ADAPTERS} adapters to a folder`)
  await writeToFolder(folder, catalogueObjects(names))
  return [
    ...(await measureFolder(context, folder, names)),
    ...(await measureListedPages(context, { folder, group: GROUP, pageSizes: PAGE_SIZES })),
    ...(await measureS3(context, context.quick ? QUICK_S3_ADAPTERS : ADAPTERS)),
  ]
}

async function measureFolder(context: BenchContext, folder: string, names: readonly AdapterName[]): Promise<Figure[]> {
  const { progress, quick, signal } = context
  const group = GROUP
  const rounds = quick ? 2 : 5
  progress(`reading it from a folder, ${rounds} times`)
  const [loads, refreshes]: [number[], number[]] = [[], []]
  for (let round = 0; round < rounds; round += 1) {
    signal.throwIfAborted()
    const read = new Catalogue(await FolderStore.open(folder, randomUUID))
    loads.push(await loadSeconds(read))
    refreshes.push((await timed(() => read.refresh())) / 1000)
  }
  const before = await heapBytes()
  const kept = new Catalogue(await FolderStore.open(folder, randomUUID))
  await kept.load()
  const heap = (await heapBytes()) - before
  return [
    measured({ id: 'catalogue.load.folder', group, label: 'read from a folder', unit: 's' }, summarise(loads)),
    measured({ id: 'catalogue.refresh.folder', group, label: 'looked at again, nothing new', unit: 's' }, summarise(refreshes)),
    { id: 'catalogue.memory', group, label: 'memory of the gateway, with the folder store’s', unit: 'MB', value: heap / 1e6 },
    ...measureAnswers(context, kept, names),
  ]
}

/** From memory: no store is asked. */
function measureAnswers({ seed, quick }: BenchContext, catalogue: Catalogue, names: readonly AdapterName[]): Figure[] {
  const group = GROUP
  const random = seededRandom(seed)
  const pages = PAGE_SIZES.map((limit): Figure => {
    const times = Array.from({ length: PAGES }, () => pageMs(catalogue, names, limit, random))
    const figure = { id: `catalogue.page.${limit}`, group, label: `a page of ${limit} from any place`, unit: 'ms' } as const
    return { ...measured(figure, summarise(times)), target: { at: 'most', value: 50 } }
  })
  const forms = [
    { id: 'name', label: 'a name', of: (name: AdapterName) => name },
    { id: 'version', label: 'a name and a version', of: (name: AdapterName) => `${name}@1` },
    { id: 'unknown', label: 'a name that nobody published', of: (name: AdapterName) => `${name}-x` },
  ] as const
  const rounds = quick ? 5 : 25
  return [
    ...pages,
    ...forms.map(({ id, label, of }): Figure => {
      const texts = shuffled(names, random).map(of)
      // The first round is the compiler's.
      const means = Array.from({ length: rounds + 1 }, () => resolveMicroseconds(catalogue, texts)).slice(1)
      const figure = {
        id: `catalogue.resolve.${id}`,
        group,
        label: `resolving ${label}, mean of ${texts.length}`,
        unit: 'µs',
      } as const
      return { ...measured(figure, summarise(means)), target: { at: 'most', value: 20 } }
    }),
  ]
}

function pageMs(catalogue: Catalogue, names: readonly AdapterName[], limit: number, random: Random): number {
  // A cursor as a page gives it: behind the first name of a random team.
  const { cursor } = catalogue.page({
    prefix: names[drawBelow(random, names.length)]?.slice(0, 'team-00'.length) ?? '',
    limit: 1,
  })
  const startedAtMs = performance.now()
  catalogue.page({ limit, ...(cursor === undefined ? {} : { cursor }) })
  return performance.now() - startedAtMs
}

function resolveMicroseconds(catalogue: Catalogue, texts: readonly string[]): number {
  const startedAtMs = performance.now()
  for (const text of texts) {
    try {
      catalogue.resolve(text)
    } catch {
      // That there is none is an answer, too, which a request waits for.
    }
  }
  return ((performance.now() - startedAtMs) * 1000) / texts.length
}

async function measureS3(context: BenchContext, count: number): Promise<Figure[]> {
  const { progress, cleanUp, signal } = context
  const s3 = await startBenchS3(context)
  const store = s3.store('catalogue')
  progress(`writing a catalogue of ${count} adapters to S3`)
  await writeToStore(store, catalogueObjects(manyNames(count)), signal)
  progress('reading it from S3, without Redis and with it')
  const plain = await loadSeconds(new Catalogue(store))
  const redis = await startRedisServer()
  const stopRedis = cleanUp.add({ undo: () => redis.stop(), undoNow: () => {} })
  const log = () => {}
  const connection = connectRedis(redis.url, { log, random: Math.random, clock: systemClock() })
  const disconnect = cleanUp.add({ undo: () => connection.close(), undoNow: () => {} })
  await connection.isReadyWithin(REDIS_READY_MS)
  const withCopies = () => loadWithRedis(store, new RedisHotCopy({ redis: connection, scope: 'bench', log }))
  const first = await withCopies()
  const copied = await withCopies()
  await disconnect()
  await stopRedis()
  await s3.stop()
  const group = `A catalogue of ${count} adapters in S3`
  const figure = (id: string, label: string, value: number): Figure => ({
    id: `catalogue.s3.${id}`,
    group,
    label,
    unit: 's',
    value,
  })
  return [
    figure('plain', 'read from S3', plain),
    figure('first', 'read from S3, copied to an empty Redis', first),
    figure('copied', 'listed in S3, read from Redis', copied),
  ]
}

async function loadWithRedis(store: ObjectStore, hotCopy: RedisHotCopy): Promise<number> {
  return await loadSeconds(new Catalogue(store, { hotCopy }))
}

async function loadSeconds(catalogue: Catalogue): Promise<number> {
  return (await timed(() => catalogue.load())) / 1000
}
