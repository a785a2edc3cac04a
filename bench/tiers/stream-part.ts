/**
 * A text that streams through the whole server while 50 adapters come from S3 into RAM: what fetching, checking and packing them costs
 * those who wait for nothing.
 */
import { setTimeout as wait } from 'node:timers/promises'
import { ServingError } from '@quiver/protocol'
import type { BenchContext } from '../bench.ts'
import { temporaryFolder } from '../shared/clean-up.ts'
import { type Figure, measured } from '../shared/figure.ts'
import { startQuiver } from '../shared/quiver-process.ts'
import { serverSettings } from '../shared/server-settings.ts'
import { quantile, summarise } from '../shared/statistics.ts'
import { startBenchS3 } from './bench-s3.ts'
import { publishRandom, readServedModel } from './published.ts'
import { gapsOf, tokenTimes } from './token-stream.ts'

const STORE = 'stream'
const ARRIVALS = 50
/** Longer than the arrivals take; a sequence has room for 2,048. */
const NEW_TOKENS = 1500
/** Of the stream, before the first adapter is asked for. */
const QUIET_MS = 2000

export async function measureStream(context: BenchContext): Promise<Figure[]> {
  const { signal, progress, cleanUp } = context
  const s3 = await startBenchS3(context)
  const { layout, prompt } = await readServedModel(context)
  const adapters = await publishRandom(context, { store: s3.store(STORE), layout, count: ARRIVALS })
  const settings = await serverSettings(context, await temporaryFolder(cleanUp))
  progress('quiver serve over S3')
  const server = await startQuiver({ ...context, settings: { ...settings, ...s3.settings(STORE) } })
  const { url } = server
  await tokenTimes({ url, inputs: prompt, newTokens: 20, signal })
  progress(`a stream while ${ARRIVALS} adapters come`)
  const startedAtMs = performance.now()
  const stream = tokenTimes({ url, inputs: prompt, newTokens: NEW_TOKENS, signal })
  const arrivals = wait(QUIET_MS, undefined, { signal }).then(async () => {
    await Promise.all(adapters.map(({ name }) => prefetch(url, name, signal)))
    return performance.now() - startedAtMs
  })
  const [times, arrivedMs] = await Promise.all([stream, arrivals])
  await server.stop()
  await s3.stop()
  const [firstMs = 0] = times
  const quiet = gapsOf(times.filter((time) => time < QUIET_MS))
  const beside = gapsOf(times.filter((time) => time >= QUIET_MS && time < arrivedMs))
  if (quiet.length === 0 || beside.length === 0 || firstMs > QUIET_MS)
    throw new ServingError('internal', 'the stream had no tokens before the adapters came, or none while they did')
  const group = `Between two tokens of a stream over HTTP, while ${ARRIVALS} adapters come from S3 into RAM`
  const longest = (gaps: readonly number[]) => Math.max(...gaps) / quantile(quiet, 0.5)
  return [
    measured({ id: 'stream.quiet', group, label: 'before they come', unit: 'ms' }, summarise(quiet)),
    { id: 'stream.quiet.longest', group, label: 'before they come: longest ÷ median', unit: 'x', value: longest(quiet) },
    measured({ id: 'stream.beside', group, label: 'while they come', unit: 'ms' }, summarise(beside)),
    { id: 'stream.beside.longest', group, label: 'while they come: longest ÷ median before', unit: 'x', value: longest(beside) },
    { id: 'stream.arrivals', group, label: 'until the last one is there', unit: 's', value: (arrivedMs - QUIET_MS) / 1000 },
  ]
}

/** Resolves when the adapter is in RAM. */
async function prefetch(url: string, name: string, signal: AbortSignal): Promise<void> {
  const response = await fetch(`${url}/admin/adapters/${encodeURIComponent(name)}/prefetch`, { method: 'POST', signal })
  const text = await response.text()
  if (!response.ok) throw new ServingError('internal', `the server answered ${response.status} to a prefetch: ${text}`)
}
