/** One tenant sends a hundred requests at once while another sends one at a time: what the other notices. */
import { randomBytes, randomUUID } from 'node:crypto'
import path from 'node:path'
import { changeKeys, makeKey } from '@quiver/gateway'
import type { BenchContext } from '../bench.ts'
import { type Figure, measured } from '../shared/figure.ts'
import { Samples } from '../shared/interleave.ts'
import { quantile, summarise } from '../shared/statistics.ts'
import type { Contestant } from './contestant.ts'
import { closedLoop } from './load.ts'
import { startUnderLoad } from './quiver-under-load.ts'

const FLOOD = 100
const ADAPTERS = 8

export async function measureFlood(context: BenchContext): Promise<Figure[]> {
  const { quick, progress, config } = context
  const keys = new Map<'a' | 'b', string>()
  const {
    process: server,
    prompts,
    client,
  } = await startUnderLoad(context, ADAPTERS, async (folder) => {
    const file = path.join(folder, 'keys.json')
    for (const tenant of ['a', 'b'] as const) keys.set(tenant, await createKey(file, tenant))
    return { QUIVER_KEYS: file }
  })
  const [a, b] = [client(keys.get('a')), client(keys.get('b'))]
  const half = config.sequences / 2
  const count = quick ? 8 : 40
  const asksOf = (requests: number) =>
    Array.from({ length: requests }, (_, index) => ({ ...prompts.next(128), newTokens: 64, adapter: index % ADAPTERS }))
  await closedLoop(
    a,
    asksOf(ADAPTERS).map((ask) => ({ ...ask, newTokens: 2 })),
    ADAPTERS,
  )
  const samples = new Samples<'alone' | 'half' | 'flooded'>()
  const measure = async (kind: 'alone' | 'half' | 'flooded', beside: number) => {
    progress(`${count} requests of one tenant beside ${beside} of another`)
    const noise = new AbortController()
    const others = Array.from({ length: beside }, () => keepAsking(a, asksOf, noise.signal))
    for (const { endMs } of (await closedLoop(b, asksOf(count), 1)).answers) samples.add(kind, endMs)
    noise.abort()
    await Promise.all(others)
  }
  await measure('alone', 0)
  await measure('half', half)
  await measure('flooded', FLOOD)
  await server.stop()
  return figuresOf(samples, half, config.sequences)
}

async function keepAsking(
  server: Contestant,
  asksOf: (requests: number) => Parameters<Contestant['stream']>[0][],
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const [ask] = asksOf(1)
    if (ask !== undefined) await server.stream(ask)
  }
}

function figuresOf(samples: Samples<'alone' | 'half' | 'flooded'>, half: number, places: number): Figure[] {
  const group = `Tenant B sends one request at a time, 128 tokens in, 64 out, batch of ${places}: whole request`
  const labels = { alone: 'B alone', half: `beside ${half} requests of A`, flooded: `beside ${FLOOD} requests of A` }
  const p99 = (kind: keyof typeof labels) => quantile(samples.of(kind), 0.99)
  return [
    ...(['alone', 'half', 'flooded'] as const).flatMap((kind): Figure[] => [
      measured({ id: `serve.flood.${kind}`, group, label: labels[kind], unit: 'ms' }, summarise(samples.of(kind))),
      { id: `serve.flood.${kind}-p99`, group, label: `${labels[kind]}, p99`, unit: 'ms', value: p99(kind) },
    ]),
    {
      id: 'serve.flood.ratio',
      group,
      label: 'p99: flooded ÷ beside a half-full batch',
      unit: 'x',
      value: p99('flooded') / p99('half'),
      target: { at: 'most', value: 1.5 },
    },
  ]
}

/** @returns the secret */
async function createKey(file: string, tenant: string): Promise<string> {
  const { secret, entry } = makeKey({ tenant, rights: ['generate'] }, { drawBytes: randomBytes, now: () => new Date() })
  await changeKeys(file, randomUUID, (keys) => [...keys, entry])
  return secret
}
