/**
 * An adapter that somebody uploads to the drop folder: from the end of its last upload to the end of the first request that it answers.
 * Told of by a bucket's events, which the bench sends as an S3 server would, one for each upload; and found by looking.
 */
import { setTimeout as wait } from 'node:timers/promises'
import { PutObjectCommand, type PutObjectCommandInput, type S3Client } from '@aws-sdk/client-s3'
import { ServingError } from '@quiver/protocol'
import { s3ClientOf } from '../../test/support/s3-server.ts'
import type { BenchContext } from '../bench.ts'
import { temporaryFolder } from '../shared/clean-up.ts'
import { type Figure, measured } from '../shared/figure.ts'
import { type QuiverProcess, startQuiver } from '../shared/quiver-process.ts'
import { serverSettings } from '../shared/server-settings.ts'
import { summarise } from '../shared/statistics.ts'
import { type BenchS3, startBenchS3 } from './bench-s3.ts'
import { randomAdapters, readServedModel } from './published.ts'

/** So long that no look comes by chance while events are measured. */
const NO_LOOKS_MS = 3_600_000
const ASK_EVERY_MS = 10
const PATIENCE_MS = 60_000

/** How the server learns of a drop. */
const ways = ['events', 'ready', 'looking'] as const
type Way = (typeof ways)[number]

interface Upload {
  readonly name: string
  readonly config: Uint8Array
  readonly weights: Uint8Array
}

export async function measurePublish(context: BenchContext): Promise<Figure[]> {
  const s3 = await startBenchS3(context)
  const client = s3ClientOf(s3.access)
  context.cleanUp.add({ undo: async () => client.destroy(), undoNow: () => {} })
  const { layout } = await readServedModel(context)
  const each = context.quick ? 3 : 15
  const uploads = randomAdapters(context, layout, each * ways.length)
  const times: Record<Way, number[]> = { events: [], ready: [], looking: [] }
  let megabytes = 0
  const publish = async (way: Way, folder: string, server: QuiverProcess): Promise<void> => {
    context.progress(`publishing ${each} adapters: ${way}`)
    for (let i = 0; i < each; i += 1) {
      const { value: upload } = uploads.next()
      if (upload === undefined) break
      megabytes = upload.weights.length / 1e6
      times[way].push(await publishOne(upload, { way, folder, server, s3, client, signal: context.signal }))
    }
  }
  const told = await startOver(context, s3, 'told', { QUIVER_DROP_INTERVAL_MS: String(NO_LOOKS_MS) })
  await publish('events', 'told', told)
  await publish('ready', 'told', told)
  await told.stop()
  const looking = await startOver(context, s3, 'looking', {})
  await publish('looking', 'looking', looking)
  await looking.stop()
  await s3.stop()
  return publishFigures(times, megabytes)
}

function publishFigures(times: Record<Way, readonly number[]>, megabytes: number): Figure[] {
  const group = `From the last upload to the drop folder to the first answer (${megabytes.toFixed(1)} MB)`
  const labels: Record<Way, string> = {
    events: 'told of by events',
    ready: 'told of by events, `_READY` as the last upload',
    looking: 'found by looking, at the default interval',
  }
  return ways.map((way) => {
    const figure = measured({ id: `publish.${way}`, group, label: labels[way], unit: 'ms' }, summarise(times[way]))
    return way === 'events' ? { ...figure, target: { at: 'most', value: 1000 } } : figure
  })
}

async function startOver(
  context: BenchContext,
  s3: BenchS3,
  folder: string,
  more: Readonly<Record<string, string>>,
): Promise<QuiverProcess> {
  context.progress('quiver serve over S3')
  const settings = await serverSettings(context, await temporaryFolder(context.cleanUp))
  return await startQuiver({ ...context, settings: { ...settings, ...s3.settings(folder), ...more } })
}

interface Publishing {
  readonly way: Way
  /** Of the bucket: the server's store. */
  readonly folder: string
  readonly server: QuiverProcess
  readonly s3: BenchS3
  readonly client: S3Client
  readonly signal: AbortSignal
}

/** @returns milliseconds */
async function publishOne({ name, config, weights }: Upload, publishing: Publishing): Promise<number> {
  const { way, folder, server, s3, client, signal } = publishing
  const put = async (file: string, body: NonNullable<PutObjectCommandInput['Body']>): Promise<string> => {
    const key = `${folder}/drop/${name}/${file}`
    await client.send(new PutObjectCommand({ Bucket: s3.bucket, Key: key, Body: body }))
    return key
  }
  const tell = async (key: string): Promise<void> => {
    if (way !== 'looking') await sendEvent(server.url, { bucket: s3.bucket, key, signal })
  }
  await tell(await put('adapter_config.json', config))
  let last = await put('adapter_model.safetensors', weights)
  if (way === 'ready') {
    await tell(last)
    last = await put('_READY', new Uint8Array())
  }
  const startedAtMs = performance.now()
  await tell(last)
  await firstAnswer(server.url, name, signal)
  return performance.now() - startedAtMs
}

/** As an S3 server tells of an upload. */
async function sendEvent(
  url: string,
  { bucket, key, signal }: { readonly bucket: string; readonly key: string; readonly signal: AbortSignal },
): Promise<void> {
  const record = {
    eventVersion: '2.1',
    eventSource: 'aws:s3',
    eventName: 'ObjectCreated:Put',
    s3: { bucket: { name: bucket }, object: { key: encodeURIComponent(key).replaceAll('%2F', '/') } },
  }
  const response = await fetch(`${url}/admin/events/s3`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ Records: [record] }),
    signal,
  })
  const text = await response.text()
  if (!response.ok) throw new ServingError('internal', `the server answered ${response.status} to an event: ${text}`)
}

/** Asks for one token again and again until it comes. */
async function firstAnswer(url: string, adapter: string, signal: AbortSignal): Promise<void> {
  const untilMs = performance.now() + PATIENCE_MS
  const body = JSON.stringify({ inputs: 'Once', parameters: { adapter_id: adapter, max_new_tokens: 1 } })
  for (;;) {
    const response = await fetch(`${url}/generate`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
      signal,
    })
    const text = await response.text()
    if (response.ok) return
    if (performance.now() > untilMs)
      throw new ServingError('internal', `${adapter} was not published in ${PATIENCE_MS} ms: ${response.status} ${text}`)
    await wait(ASK_EVERY_MS, undefined, { signal })
  }
}
