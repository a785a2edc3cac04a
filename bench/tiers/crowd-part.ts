/** Many who want the same cold adapter in the same moment. What is read of S3 is counted by a proxy on the way there. */
import { storedAdapterKeys } from '@quiver/cache/store'
import { parseAdapterDigest } from '@quiver/protocol'
import type { BenchContext } from '../bench.ts'
import { temporaryFolder } from '../shared/clean-up.ts'
import { type Figure, measured } from '../shared/figure.ts'
import { startQuiver } from '../shared/quiver-process.ts'
import { serverSettings } from '../shared/server-settings.ts'
import { quantile, summarise } from '../shared/statistics.ts'
import { startBenchS3 } from './bench-s3.ts'
import { CountingProxy } from './counting-proxy.ts'
import { PROMPT_TOKENS, publishRandom, readServedModel } from './published.ts'
import { tokenTimes } from './token-stream.ts'

const STORE = 'crowd'
const REQUESTS = 100
const NEW_TOKENS = 4
const WARM_UPS = 3

export async function measureCrowd(context: BenchContext): Promise<Figure[]> {
  const { signal, progress, cleanUp } = context
  const s3 = await startBenchS3(context)
  const proxy = await CountingProxy.start(s3.access.endpoint, cleanUp)
  const { layout, prompt } = await readServedModel(context)
  const crowds = context.quick ? 2 : 5
  const adapters = await publishRandom(context, { store: s3.store(STORE), layout, count: crowds })
  const settings = await serverSettings(context, await temporaryFolder(cleanUp))
  progress('quiver serve over S3, by way of a proxy')
  const server = await startQuiver({ ...context, settings: { ...settings, ...s3.settings(STORE, proxy.url) } })
  const request = { url: server.url, inputs: prompt, newTokens: NEW_TOKENS, signal }
  for (let i = 0; i < WARM_UPS; i += 1) await tokenTimes(request)
  const firstTokens: number[] = []
  const downloads: number[] = []
  for (const { name, digest } of adapters) {
    progress(`${REQUESTS} requests at once for ${name}`)
    const crowd = Array.from({ length: REQUESTS }, () => tokenTimes({ ...request, adapter: name }))
    for (const [first = Number.NaN] of await Promise.all(crowd)) firstTokens.push(first)
    downloads.push(proxy.gets(storedAdapterKeys(parseAdapterDigest(digest)).weights))
  }
  await server.stop()
  await s3.stop()
  const group = `${REQUESTS} requests at once for one adapter that is in S3 alone, prompts of ${PROMPT_TOKENS} tokens`
  return [
    {
      id: 'crowd.downloads',
      group,
      label: `reads of its weights, at most in ${crowds} crowds`,
      unit: 'loads',
      value: Math.max(...downloads),
      target: { at: 'most', value: 1 },
    },
    {
      id: 'crowd.downloads.fewest',
      group,
      label: 'reads of its weights, at least',
      unit: 'loads',
      value: Math.min(...downloads),
      target: { at: 'least', value: 1 },
    },
    measured({ id: 'crowd.first-token', group, label: 'first token', unit: 'ms' }, summarise(firstTokens)),
    { id: 'crowd.first-token.p99', group, label: 'first token, p99', unit: 'ms', value: quantile(firstTokens, 0.99) },
  ]
}
