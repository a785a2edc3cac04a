/** Quiver and every peer that is installed, all up at once, under the same loads in turns. */
import path from 'node:path'
import { ServingError } from '@quiver/protocol'
import { createTokenizer } from '../../packages/worker/src/tokenizer/create-tokenizer.ts'
import type { BenchContext } from '../bench.ts'
import { openBenchModel } from '../engine/opened-model.ts'
import { writeAdapters } from '../engine/served-adapters.ts'
import { temporaryFolder } from '../shared/clean-up.ts'
import { type Figure, measured, type Target } from '../shared/figure.ts'
import { Samples } from '../shared/interleave.ts'
import { startQuiver } from '../shared/quiver-process.ts'
import { type Random, seededRandom, shuffled } from '../shared/random.ts'
import { serverSettings } from '../shared/server-settings.ts'
import { quantile, ratioOfMedians, summarise } from '../shared/statistics.ts'
import { readCommit } from '../shared/versions.ts'
import type { Ask, Contestant, Equipment } from './contestant.ts'
import { closedLoop, type LoadResult, poissonArrivals } from './load.ts'
import { startLlama } from './peers/llama.ts'
import { openVinoPeer, peftPeer, startPythonPeer } from './peers/python-peer.ts'
import { folderNames, quiverContestant } from './peers/quiver.ts'
import { startVllm } from './peers/vllm.ts'
import { Prompts } from './prompts.ts'

const ADAPTERS = 16
const AT_ONCE = 16
const ROOT = path.join(import.meta.dirname, '../..')
/** Below what the slowest of them can do, so that queues do not grow without end. */
const ARRIVALS_PER_SECOND = 0.5

type LoadId = 'different' | 'base' | 'single' | 'poisson'

interface Load {
  readonly id: LoadId
  readonly title: string
  asks(prompts: Prompts, quick: boolean): Ask[]
  run(server: Contestant, asks: readonly Ask[], random: Random, signal: AbortSignal): Promise<LoadResult>
}

const many = (adapter: (index: number) => number | undefined, count: number) => (prompts: Prompts) =>
  Array.from({ length: count }, (_, index) => ({ ...prompts.next(128), newTokens: 64, adapter: adapter(index) }))
const atOnce: Load['run'] = (server, asks) => closedLoop(server, asks, AT_ONCE)

const loads: readonly Load[] = [
  {
    id: 'different',
    title: '16 different adapters, 16 requests at once, 128 tokens in, 64 out',
    asks: many((index) => index % ADAPTERS, 2 * AT_ONCE),
    run: atOnce,
  },
  {
    id: 'base',
    title: 'Base model alone, 16 requests at once, 128 tokens in, 64 out',
    asks: many(() => undefined, 2 * AT_ONCE),
    run: atOnce,
  },
  {
    id: 'single',
    title: 'One request at a time with an adapter, 70 tokens in, 10 out',
    asks: (prompts, quick) =>
      Array.from({ length: quick ? 3 : 8 }, (_, index) => ({ ...prompts.next(70), newTokens: 10, adapter: index % ADAPTERS })),
    run: (server, asks) => closedLoop(server, asks, 1),
  },
  {
    id: 'poisson',
    title: `16 different adapters, Poisson arrivals, ${ARRIVALS_PER_SECOND} requests a second, 128 tokens in, 64 out`,
    asks: (prompts, quick) => many((index) => index % ADAPTERS, quick ? 4 : 12)(prompts),
    run: (server, asks, random, signal) => poissonArrivals(server, asks, { perSecond: ARRIVALS_PER_SECOND, random, signal }),
  },
]

/** What is promised against a peer, as Quiver's figure ÷ the peer's. */
const promises: Readonly<Record<string, Target>> = {
  'different.speed.vllm': { at: 'least', value: 7 },
  'different.speed.llama': { at: 'least', value: 6 },
  'different.speed.openvino': { at: 'least', value: 1.3 },
  'different.first-token.vllm': { at: 'most', value: 0.1 },
  'base.speed.vllm': { at: 'least', value: 2 },
  'base.speed.openvino': { at: 'least', value: 1 },
  'single.time.vllm': { at: 'most', value: 0.143 },
  'single.time.openvino': { at: 'most', value: 0.5 },
}

export async function measureContest(context: BenchContext): Promise<Figure[]> {
  const random = seededRandom(context.seed)
  const { contestants, prompts } = await startAll(context, random)
  const samples = new Samples<string>()
  const rounds = context.quick ? 1 : 2
  for (let round = 0; round <= rounds; round += 1) {
    for (const load of loads) {
      for (const server of shuffled(contestants, random)) {
        context.signal.throwIfAborted()
        // The first round warms up: one request for each adapter. Arrivals at their own pace take long enough once.
        const asks = load.asks(prompts, context.quick).map((ask) => adjusted(server, ask))
        if (round === 0) {
          if (load.id === 'different' || load.id === 'base') await closedLoop(server, asks.slice(0, ADAPTERS).map(short), AT_ONCE)
          continue
        }
        if (load.id === 'poisson' && round < rounds) continue
        context.progress(`round ${round} of ${rounds}: ${load.title}: ${server.title}`)
        take(samples, load.id, server.id, await load.run(server, asks, random, context.signal))
      }
    }
  }
  await context.cleanUp.run()
  return loads.flatMap((load) => figuresOf(load, contestants, samples))
}

async function startAll(context: BenchContext, random: Random): Promise<{ contestants: Contestant[]; prompts: Prompts }> {
  const model = await openBenchModel(context)
  await model.weights.close()
  const prompts = new Prompts(createTokenizer(model.tokenizerFiles, { wallClockMs: () => 0 }), random)
  const folder = await temporaryFolder(context.cleanUp)
  const root = path.join(folder, 'adapters')
  const names = await writeAdapters(context, root)
  const equipment: Equipment = {
    adapterFolders: names.slice(0, ADAPTERS).map((name) => path.join(root, name)),
    gguf: path.join(ROOT, '.peers/model.gguf'),
    peers: path.join(ROOT, '.peers'),
  }
  context.progress('starting Quiver and its peers')
  const settings = { ...(await serverSettings(context, folder)), QUIVER_LOCAL_ROOTS: root }
  const { url } = await startQuiver({ settings, ...context })
  const quiver = quiverContestant({
    url,
    version: await readCommit(ROOT),
    adapters: folderNames(equipment.adapterFolders),
    source: 'local',
  })
  const peers = [
    await startVllm(context, equipment),
    await startLlama(context, equipment),
    await startPythonPeer(openVinoPeer, context, equipment),
    await startPythonPeer(peftPeer, context, equipment),
  ].filter((peer) => peer !== undefined)
  if (peers.length < 4)
    context.progress(
      `only ${peers.map(({ title }) => title).join(', ') || 'none'} of four peers is installed: bench/setup-peers.sh`,
    )
  return { contestants: [quiver, ...peers], prompts }
}

function adjusted(server: Contestant, ask: Ask): Ask {
  return server.hasOneAdapter && ask.adapter !== undefined ? { ...ask, adapter: 0 } : ask
}

function short(ask: Ask): Ask {
  return { ...ask, newTokens: 4 }
}

/** Speeds are of a load as a whole; times are of each request. */
function take(samples: Samples<string>, load: LoadId, server: string, { tokensPerSecond, answers }: LoadResult): void {
  samples.add(`${load}.speed.${server}`, tokensPerSecond)
  for (const { firstTokenMs, endMs } of answers) {
    samples.add(`${load}.first-token.${server}`, firstTokenMs)
    samples.add(`${load}.time.${server}`, endMs)
  }
}

const kinds = [
  { id: 'speed', unit: 'tokens/s', title: 'all of them', loads: ['different', 'base'] },
  { id: 'first-token', unit: 'ms', title: 'to the first token', loads: ['different', 'base', 'single', 'poisson'] },
  { id: 'time', unit: 'ms', title: 'whole request', loads: ['single', 'poisson'] },
] as const

function figuresOf({ id: load, title }: Load, contestants: readonly Contestant[], samples: Samples<string>): Figure[] {
  return kinds.flatMap((kind) => {
    if (!(kind.loads as readonly string[]).includes(load)) return []
    const group = `${title}: ${kind.title}`
    const of = (server: string) => samples.of(`${load}.${kind.id}.${server}`)
    const [quiver, ...peers] = contestants
    if (quiver === undefined) throw new ServingError('internal', 'nobody was measured')
    return [
      ...contestants.flatMap((server): Figure[] => [
        measured(
          {
            id: `serve.${load}.${kind.id}.${server.id}`,
            group,
            label: `${server.title}${server.hasOneAdapter && load !== 'base' ? ', one adapter for all' : ''}, ${server.version}`,
            unit: kind.unit,
          },
          summarise(of(server.id)),
        ),
        ...(kind.id === 'speed'
          ? []
          : [p99Figure(`serve.${load}.${kind.id}-p99.${server.id}`, group, server.title, of(server.id))]),
      ]),
      ...peers.map((peer): Figure => {
        const target = promises[`${load}.${kind.id}.${peer.id}`]
        return {
          id: `serve.${load}.${kind.id}-ratio.${peer.id}`,
          group,
          label: `Quiver ÷ ${peer.title}`,
          unit: 'x',
          value: ratioOfMedians(of(quiver.id), of(peer.id)),
          ...(target === undefined ? {} : { target }),
        }
      }),
    ]
  })
}

function p99Figure(id: string, group: string, title: string, times: readonly number[]): Figure {
  return { id, group, label: `${title}, p99`, unit: 'ms', value: quantile(times, 0.99) }
}
