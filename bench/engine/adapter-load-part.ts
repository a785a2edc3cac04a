/** An adapter's way from its packed file to a slot: read, verified, copied. The files are in the system's cache. */
import { randomUUID } from 'node:crypto'
import * as nodeFiles from 'node:fs/promises'
import type { AdapterDigest } from '@quiver/protocol'
import { ServingError, type SlotIndex } from '@quiver/protocol'
import { DiskTier } from '../../packages/cache/src/tiers/disk-tier.ts'
import { packedDtype } from '../../packages/worker/src/engine/onnx/onnx-engine.ts'
import { baseLayout } from '../../packages/worker/src/model/model-spec.ts'
import type { BenchContext } from '../bench.ts'
import { temporaryFolder } from '../shared/clean-up.ts'
import { type Figure, measured } from '../shared/figure.ts'
import { LagMeter } from '../shared/lag-meter.ts'
import { drawBelow } from '../shared/random.ts'
import { summarise } from '../shared/statistics.ts'
import type { BenchEngine } from './bench-engine.ts'
import { randomPacked } from './random-adapters.ts'

/** Rank 8 on all modules of the default model is 4.9 MB in 16 bits. */
const RANK = 8
const FILES = 8
const DISK_BYTES = 2 ** 30

export async function measureAdapterLoad(context: BenchContext, bench: BenchEngine): Promise<Figure[]> {
  const { engine } = bench.driver
  const dtype = packedDtype(context.config.dtype)
  const layout = baseLayout(engine.model)
  const folder = await temporaryFolder(context.cleanUp)
  const disk = await DiskTier.open(
    { folder, budgetBytes: DISK_BYTES, layout, dtype },
    { files: nodeFiles, log: () => {}, uniqueId: randomUUID, policy: { score: () => 0, noteUse: () => {} } },
  )
  const digests: AdapterDigest[] = []
  let bytes = 0
  for (let i = 0; i < FILES; i += 1) {
    const { digest, file } = await randomPacked(`file ${i}`, { layout, rank: RANK }, dtype, bench.weights)
    if (!(await disk.write(digest, file)))
      throw new ServingError('internal', `a packed adapter could not be written to ${folder}`)
    digests.push(digest)
    bytes = file.length
  }
  const loads = context.quick ? 16 : 64
  context.progress(`adapter from disk to slot: ${loads} loads`)
  const load = (slot: number) => loadOnce(bench, disk, digests[drawBelow(bench.random, FILES)], slot)
  // Every slot once, so that its memory is there.
  for (let slot = 0; slot < engine.slots; slot += 1) await load(slot)
  const times: LoadTimes[] = []
  for (let i = 0; i < loads; i += 1) {
    context.signal.throwIfAborted()
    times.push(await load(i % engine.slots))
  }
  return figuresOf(times, bytes)
}

/** In milliseconds. */
interface LoadTimes {
  readonly readMs: number
  readonly copyMs: number
  readonly stallMs: number
}

async function loadOnce(
  { driver }: BenchEngine,
  disk: DiskTier,
  digest: AdapterDigest | undefined,
  slot: number,
): Promise<LoadTimes> {
  const meter = new LagMeter()
  meter.start()
  const startedAtMs = performance.now()
  const packed = digest === undefined ? undefined : await disk.read(digest)
  if (packed === undefined) throw new ServingError('internal', `the packed adapter ${digest} is not on disk any more`)
  const readAtMs = performance.now()
  await driver.engine.loadAdapter(slot as SlotIndex, packed)
  const copiedAtMs = performance.now()
  const { max } = await meter.stop()
  return { readMs: readAtMs - startedAtMs, copyMs: copiedAtMs - readAtMs, stallMs: max }
}

function figuresOf(times: readonly LoadTimes[], bytes: number): Figure[] {
  const group = `Adapter from its packed file to a slot (${(bytes / 1e6).toFixed(1)} MB)`
  const figure = (id: string, label: string, of: (times: LoadTimes) => number) =>
    measured({ id: `load.${id}`, group, label, unit: 'ms' }, summarise(times.map(of)))
  return [
    { ...figure('total', 'read, verify and copy', ({ readMs, copyMs }) => readMs + copyMs), target: { at: 'most', value: 15 } },
    figure('read', 'read and verify', ({ readMs }) => readMs),
    figure('copy', 'copy into the slot', ({ copyMs }) => copyMs),
    figure('stall', 'longest stall of the event loop during one load', ({ stallMs }) => stallMs),
  ]
}
