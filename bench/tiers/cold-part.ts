/**
 * An adapter that no tier has: found in S3, checked, packed, copied into a slot, and the first token computed with it. Every
 * adapter is asked for once before, and then once again; beside it the base model, so that what the adapter's coming costs can be
 * told from what the prompt costs.
 */
import { setTimeout as wait } from 'node:timers/promises'
import type { BenchContext } from '../bench.ts'
import { temporaryFolder } from '../shared/clean-up.ts'
import { type Figure, measured } from '../shared/figure.ts'
import { Samples } from '../shared/interleave.ts'
import { startQuiver } from '../shared/quiver-process.ts'
import { serverSettings } from '../shared/server-settings.ts'
import { summarise } from '../shared/statistics.ts'
import { startBenchS3 } from './bench-s3.ts'
import { PROMPT_TOKENS, publishRandom, readServedModel } from './published.ts'
import { tokenTimes } from './token-stream.ts'

const STORE = 'cold'
const NEW_TOKENS = 2
/** The other's threads go to sleep, and what the last request left to be written is on the disk. */
const PAUSE_MS = 100
const WARM_UPS = 3

export async function measureCold(context: BenchContext): Promise<Figure[]> {
  const { signal, progress } = context
  const s3 = await startBenchS3(context)
  const { layout, prompt } = await readServedModel(context)
  const count = context.quick ? 6 : 24
  const adapters = await publishRandom(context, { store: s3.store(STORE), layout, count })
  const settings = await serverSettings(context, await temporaryFolder(context.cleanUp))
  progress('quiver serve over S3')
  const server = await startQuiver({ ...context, settings: { ...settings, ...s3.settings(STORE) } })
  const firstToken = async (adapter?: string) => {
    await wait(PAUSE_MS)
    const [first = Number.NaN] = await tokenTimes({ url: server.url, inputs: prompt, newTokens: NEW_TOKENS, adapter, signal })
    return first
  }
  for (let i = 0; i < WARM_UPS; i += 1) await firstToken()
  const samples = new Samples<'cold' | 'again' | 'base'>()
  progress(`${count} cold adapters`)
  for (const { name } of adapters) {
    samples.add('cold', await firstToken(name))
    samples.add('again', await firstToken(name))
    samples.add('base', await firstToken())
  }
  await server.stop()
  await s3.stop()
  const megabytes = ((adapters[0]?.bytes ?? 0) / 1e6).toFixed(1)
  const group = `First token of an adapter that is in S3 alone (${megabytes} MB), prompt of ${PROMPT_TOKENS} tokens`
  const figure = (id: 'cold' | 'again' | 'base', label: string) =>
    measured({ id: `cold.${id}`, group, label, unit: 'ms' }, summarise(samples.of(id)))
  return [
    { ...figure('cold', 'in no tier of the worker'), target: { at: 'most', value: 300 } },
    figure('again', 'the same adapter asked for again'),
    figure('base', 'the base model'),
  ]
}
