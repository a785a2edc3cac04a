/** Steps of the engine on the GPU with and without adapters, and an adapter's way from the host's memory into a slot beside them. */
import path from 'node:path'
import { BASE_SLOT, type SlotIndex } from '@quiver/protocol'
import { cudaFolder } from '../../packages/worker/src/cuda/cuda-install.ts'
import { hasLibrary, missingGpu, runtimeVersion } from '../../packages/worker/src/cuda/driver.ts'
import { findDevice } from '../../packages/worker/src/cuda/find-cuda.ts'
import { packedDtype } from '../../packages/worker/src/engine/onnx/onnx-engine.ts'
import { baseLayout } from '../../packages/worker/src/model/model-spec.ts'
import type { BenchContext } from '../bench.ts'
import { type BenchEngine, openBenchEngine } from '../engine/bench-engine.ts'
import { servedShape } from '../engine/opened-model.ts'
import { randomPacked } from '../engine/random-adapters.ts'
import { type Figure, measured } from '../shared/figure.ts'
import { interleave, Samples } from '../shared/interleave.ts'
import { ratioOfMedians, summarise } from '../shared/statistics.ts'

const kernelsFolder = path.join(import.meta.dirname, '../../kernels')
const ROWS = 32
const PROMPT_TOKENS = 140
const STEPS = 60
const ADAPTER_BYTES = 42_000_000
const LOADS = 32

/** @throws ServingError `invalid_request` with each part that is missing */
export async function measureGpuEngine(context: BenchContext): Promise<Figure[]> {
  const { config, progress } = context
  const device = await findDevice(
    {
      choice: 'cuda',
      dtype: config.dtype,
      lora: 'auto',
      cudaDir: cudaFolder(config.cache),
      kernelsLibrary: `${kernelsFolder}/build/cuda/libquiver_lora_cuda.so`,
    },
    { log: (_level, message) => progress(message), missingGpu, hasLibrary, runtimeVersion: runtimeVersion() },
  )
  progress(`opening ${config.model} in ${device.dtype}`)
  const shape = { ...servedShape(context), dtype: device.dtype, sequences: ROWS, slots: ROWS + 1, device }
  const bench = await openBenchEngine(context, shape, ROWS)
  const figures = [...(await measureSteps(context, bench)), ...(await measureLoads(context, bench, device.dtype))]
  await bench.close()
  return figures
}

async function measureSteps({ signal, quick }: BenchContext, { driver, random }: BenchEngine): Promise<Figure[]> {
  const ways = { none: () => BASE_SLOT, different: (row: number) => row as SlotIndex }
  const samples = new Samples<keyof typeof ways>()
  await driver.fill(ROWS, PROMPT_TOKENS, signal)
  const rounds = quick ? STEPS / 4 : STEPS
  await interleave(['none', 'different'] as const, { rounds, random, signal }, (way) => driver.decode(ways[way]), samples)
  driver.releaseAll()
  const group = `Decode step on the GPU, ${ROWS} rows`
  const [none, different] = [samples.of('none'), samples.of('different')]
  return [
    measured({ id: 'gpu.step.none', group, label: 'no adapters', unit: 'ms' }, summarise(none)),
    measured({ id: 'gpu.step.different', group, label: 'every row its own adapter', unit: 'ms' }, summarise(different)),
    {
      id: 'gpu.step.ratio',
      group,
      label: 'every row its own adapter ÷ no adapters',
      unit: 'x',
      value: ratioOfMedians(different, none),
      target: { at: 'most', value: 1.1 },
    },
  ]
}

async function measureLoads(
  context: BenchContext,
  { driver, weights }: BenchEngine,
  dtype: Parameters<typeof packedDtype>[0],
): Promise<Figure[]> {
  const { engine } = driver
  const layout = baseLayout(engine.model)
  const one = await randomPacked('of rank 1', { layout, rank: 1 }, packedDtype(dtype), weights)
  const rank = Math.min(engine.capacity.maxRank, Math.max(1, Math.round(ADAPTER_BYTES / one.file.length)))
  const { adapter } = await randomPacked('large', { layout, rank }, packedDtype(dtype), weights)
  const spare = ROWS as SlotIndex
  const times: number[] = []
  for (let i = 0; i < LOADS; i += 1) {
    context.signal.throwIfAborted()
    const startedAtMs = performance.now()
    // Until all of it was sent and the next step will wait for the last slice, which is at most 4 MB, on the device.
    await engine.loadAdapter(spare, adapter)
    times.push(performance.now() - startedAtMs)
  }
  const group = 'An adapter from the host to a slot'
  const megabytes = Math.round(adapter.bytes / 1e6)
  const figure = measured({ id: 'gpu.load.time', group, label: `${megabytes} MB, rank ${rank}`, unit: 'ms' }, summarise(times))
  // The promise is for 42 MB; a model whose adapters cannot be as large shows its own figure, without it.
  return [megabytes >= 40 ? { ...figure, target: { at: 'most', value: 10 } } : figure]
}
