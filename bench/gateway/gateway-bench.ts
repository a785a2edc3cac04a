import { availableParallelism } from 'node:os'
import type { Bench, BenchContext } from '../bench.ts'
import type { Figure } from '../shared/figure.ts'
import { quantile } from '../shared/statistics.ts'
import type { LoadResult } from './load.ts'
import { type LoadGenerator, startLoadGenerator, startStub } from './pinned-process.ts'
import {
  chat,
  peerHeaders,
  peerNames,
  type Subject,
  type SubjectName,
  type SubjectPlace,
  startGateway,
  startPeer,
} from './subjects.ts'

/** Tokens of an answer in one piece, and of a stream. */
const WHOLE_TOKENS = 8
const STREAM_TOKENS = 256
/** As the figures of the peers were first taken. */
const CONNECTIONS = 16
const STREAMS = 64
const OPEN_RATE = 1_000

const groups = {
  added: `Added by what stands between, at ${OPEN_RATE} requests/s that come at random moments`,
  whole: `Whole answers of ${WHOLE_TOKENS} tokens, ${CONNECTIONS} connections that ask again at once`,
  stream: `Streams of ${STREAM_TOKENS} tokens, ${STREAMS} at once`,
} as const

export const gatewayBench: Bench = {
  name: 'gateway',
  title: 'The gateway itself',
  description:
    'One gateway process on one processor before a stub of a worker that answers at once, beside peers before the same stub and under the same ' +
    'load. The stub and the load generator are processes of their own on other processors: on a machine with two they share the second ' +
    'one, which is then what limits the direct line. All are asked for chat completions of the same form. What is ' +
    'added is the quantile behind the subject minus that of the same load sent to the stub itself.',
  parts: ['added', 'whole', 'stream'],
  async run(context) {
    const { progress } = context
    const processors = availableParallelism()
    if (processors < 2) progress('one processor alone: gateway, stub and load share it, and no figure means much')
    const [own, stubs, loads] = [0, Math.min(1, processors - 1), Math.min(2, processors - 1)]
    const stub = await startStub(context, stubs)
    const load = await startLoadGenerator(context, loads)
    const place: SubjectPlace = { ...context, processor: own, stubUrl: stub.url }
    const figures: Figure[] = []
    const direct = await measure(context, load, { name: 'direct', url: stub.url, stop: async () => {} })
    figures.push(...direct.figures)
    for (const name of ['quiver', ...peerNames] as const) {
      progress(`${name} starts`)
      const subject = await (name === 'quiver' ? startGateway(place) : startPeer(name, place))
      if (subject === undefined) {
        progress(`${name} is not installed and is left out: bench/setup-peers.sh gateway`)
        continue
      }
      const { figures: taken } = await measure(context, load, subject, direct.latenciesMs)
      figures.push(...taken)
      await subject.stop()
    }
    await load.stop()
    await stub.stop()
    return inGroups(figures)
  },
}

interface Measured {
  readonly figures: readonly Figure[]
  readonly latenciesMs: readonly number[]
}

/** @param base latencies of the same load without the subject */
async function measure(
  context: BenchContext,
  load: LoadGenerator,
  subject: Subject,
  base?: readonly number[],
): Promise<Measured> {
  const { only, progress, seed, quick, signal } = context
  const isWanted = (part: string) => only.length === 0 || only.includes(part)
  const { name, url } = subject
  const [seconds, warmupSeconds] = quick ? [4, 12] : [15, 20]
  const common = { url, path: '/v1/chat/completions', seconds, warmupSeconds }
  const ask = async (kind: 'added' | 'whole' | 'stream'): Promise<LoadResult> => {
    signal.throwIfAborted()
    progress(`${name}: ${kind}`)
    const stream = kind === 'stream'
    const body = JSON.stringify(chat({ tokens: stream ? STREAM_TOKENS : WHOLE_TOKENS, stream }))
    // The stub tells those runs token by token whose ids say so.
    const headers = { ...peerHeaders(name), ...(stream ? { 'x-request-id': 'stream' } : {}) }
    const request = { ...common, body, headers }
    if (kind === 'added') return await load.run({ ...request, kind: 'open', perSecond: OPEN_RATE, seed })
    return await load.run({ ...request, kind: stream ? 'tokens' : 'closed', connections: stream ? STREAMS : CONNECTIONS })
  }
  const figures: Figure[] = []
  let latenciesMs: readonly number[] = []
  if (isWanted('added') && !(name === 'litellm')) {
    latenciesMs = (await ask('added')).latenciesMs
    if (latenciesMs.length === 0)
      progress(`${name} cannot carry ${OPEN_RATE} requests/s here, and has no figures of what it adds`)
    else figures.push(...openFigures(name, latenciesMs, base))
  }
  if (isWanted('whole')) figures.push(...wholeFigures(name, await ask('whole')))
  if (isWanted('stream')) figures.push(streamFigure(name, await ask('stream')))
  return { figures, latenciesMs }
}

function openFigures(name: SubjectName, latenciesMs: readonly number[], base: readonly number[] = []): Figure[] {
  const shares = [
    { share: 0.5, label: 'p50', most: 0.3 },
    { share: 0.99, label: 'p99', most: 3 },
  ] as const
  return shares.map(({ share, label, most }) => ({
    id: `gateway.added.${label}.${name}`,
    group: groups.added,
    label: name === 'direct' ? `the stub itself: ${label}` : `${name}, added ${label}`,
    unit: 'ms',
    value: quantile(latenciesMs, share) - (base.length === 0 ? 0 : quantile(base, share)),
    ...(name === 'quiver' ? { target: { at: 'most', value: most } } : {}),
  }))
}

function wholeFigures(name: SubjectName, { answered, seconds, latenciesMs }: LoadResult): Figure[] {
  const group = groups.whole
  const label = name === 'direct' ? 'the stub itself' : name
  return [
    {
      ...{ id: `gateway.whole.rate.${name}`, group, label, unit: 'requests/s', value: answered / seconds },
      ...(name === 'quiver' ? { target: { at: 'least', value: 10_000 } } : {}),
    },
    { id: `gateway.whole.p50.${name}`, group, label: `${label}, p50`, unit: 'ms', value: quantile(latenciesMs, 0.5) },
    { id: `gateway.whole.p99.${name}`, group, label: `${label}, p99`, unit: 'ms', value: quantile(latenciesMs, 0.99) },
  ]
}

function streamFigure(name: SubjectName, { events, seconds }: LoadResult): Figure {
  return {
    ...{ id: `gateway.stream.${name}`, group: groups.stream, label: name === 'direct' ? 'the stub itself' : name },
    ...{ unit: 'tokens/s', value: events / seconds },
    ...(name === 'quiver' ? { target: { at: 'least', value: 40_000 } } : {}),
  }
}

/** Subjects side by side, part by part. */
function inGroups(figures: readonly Figure[]): readonly Figure[] {
  return Object.values(groups).flatMap((group) => figures.filter((figure) => figure.group === group))
}
