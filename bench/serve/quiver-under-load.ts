/** `quiver serve` with adapters in its store, and prompts for it: what the parts that look at Quiver alone begin with. */

import { randomUUID } from 'node:crypto'
import path from 'node:path'
import { FolderStore } from '@quiver/cache/store'
import { baseLayout } from '../../packages/worker/src/model/model-spec.ts'
import { createTokenizer } from '../../packages/worker/src/tokenizer/create-tokenizer.ts'
import type { BenchContext } from '../bench.ts'
import { openBenchModel } from '../engine/opened-model.ts'
import { temporaryFolder } from '../shared/clean-up.ts'
import { type QuiverProcess, startQuiver } from '../shared/quiver-process.ts'
import { type Random, seededRandom } from '../shared/random.ts'
import { serverSettings } from '../shared/server-settings.ts'
import { publishRandom } from '../tiers/published.ts'
import type { Contestant } from './contestant.ts'
import { quiverContestant } from './peers/quiver.ts'
import { Prompts } from './prompts.ts'

export interface QuiverUnderLoad {
  readonly process: QuiverProcess
  readonly folder: string
  readonly random: Random
  readonly prompts: Prompts
  /** @param key shown with each request, where there are keys */
  client(key?: string): Contestant
}

/** Starts it with so many different adapters of rank 8 published. */
export async function startUnderLoad(
  context: BenchContext,
  adapters: number,
  more: (folder: string) => Promise<Readonly<Record<string, string>>> = async () => ({}),
): Promise<QuiverUnderLoad> {
  const random = seededRandom(context.seed)
  const model = await openBenchModel(context)
  await model.weights.close()
  const prompts = new Prompts(createTokenizer(model.tokenizerFiles, { wallClockMs: () => 0 }), random)
  const folder = await temporaryFolder(context.cleanUp)
  const settings = await serverSettings(context, folder)
  const store = await FolderStore.open(path.join(folder, 'data/store'), randomUUID)
  const published = await publishRandom(context, { store, layout: baseLayout(model.spec), count: adapters })
  const names = published.map(({ name }) => name)
  context.progress('starting Quiver')
  const process = await startQuiver({ ...context, settings: { ...settings, ...(await more(folder)) } })
  const client = (key?: string) =>
    quiverContestant({
      url: process.url,
      version: '',
      adapters: names,
      source: 'store',
      ...(key === undefined ? {} : { key }),
    })
  return { process, folder, random, prompts, client }
}
