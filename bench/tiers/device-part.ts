/**
 * An adapter's way from RAM into a slot of the engine, alone and beside a text that is being decoded. No step waits for a load;
 * what one costs the others is the processor and the memory's bandwidth.
 */
import type { PackedAdapter } from '@quiver/cache'
import { BASE_SLOT, type SlotIndex } from '@quiver/protocol'
import { packedDtype } from '../../packages/worker/src/engine/onnx/onnx-engine.ts'
import { baseLayout } from '../../packages/worker/src/model/model-spec.ts'
import type { BenchContext } from '../bench.ts'
import { type BenchEngine, openBenchEngine } from '../engine/bench-engine.ts'
import { servedShape } from '../engine/opened-model.ts'
import { randomPacked } from '../engine/random-adapters.ts'
import { type Figure, measured } from '../shared/figure.ts'
import { Samples, timed } from '../shared/interleave.ts'
import { shuffled } from '../shared/random.ts'
import { quantile, summarise } from '../shared/statistics.ts'
import { TIERS_RANK } from './published.ts'

/** More than the processor's caches hold of them. */
const ADAPTERS = 32
const LOADS = 50
const PROMPT_TOKENS = 128
const WARM_UP_STEPS = 10
const QUIET_STEPS = 100

export async function measureDevice(context: BenchContext): Promise<Figure[]> {
  const shape = servedShape(context)
  context.progress(`opening ${context.config.model} in ${shape.dtype}`)
  const bench = await openBenchEngine(context, shape, 0)
  const adapters = await packedAdapters(context, bench)
  const figures = [...(await measureCopies(context, bench, adapters)), ...(await measureGaps(context, bench, adapters))]
  await bench.close()
  return figures
}

async function packedAdapters({ config, progress }: BenchContext, bench: BenchEngine): Promise<PackedAdapter[]> {
  progress(`making ${ADAPTERS} adapters`)
  const layout = baseLayout(bench.driver.engine.model)
  const adapters: PackedAdapter[] = []
  for (let i = 0; i < ADAPTERS; i += 1) {
    const shape = { layout, rank: TIERS_RANK }
    const { adapter } = await randomPacked(`device ${i}`, shape, packedDtype(config.dtype), bench.weights)
    adapters.push(adapter)
  }
  return adapters
}

async function measureCopies(context: BenchContext, bench: BenchEngine, adapters: readonly PackedAdapter[]): Promise<Figure[]> {
  const { slots } = bench.driver.engine
  const loads = context.quick ? LOADS : 4 * LOADS
  context.progress(`${loads} loads from RAM into slots`)
  // Every slot once, so that its memory is there.
  for (let slot = 0; slot < slots; slot += 1) await loadInto(bench, adapters, slot)
  const times: number[] = []
  for (let load = 0; load < loads; load += 1) {
    context.signal.throwIfAborted()
    times.push(await timed(() => loadInto(bench, adapters, load + 1)))
  }
  const megabytes = ((adapters[0]?.bytes ?? 0) / 1e6).toFixed(1)
  const figure = { id: 'device.copy', group: 'From RAM into a slot', label: `an adapter of ${megabytes} MB`, unit: 'ms' } as const
  return [{ ...measured(figure, summarise(times)), target: { at: 'most', value: 5 } }]
}

/** What goes on beside the steps of a stream. */
const besides = ['quiet', 'spread', 'burst'] as const
type Beside = (typeof besides)[number]

async function measureGaps(context: BenchContext, bench: BenchEngine, adapters: readonly PackedAdapter[]): Promise<Figure[]> {
  const { driver, random } = bench
  const rounds = context.quick ? 3 : 10
  context.progress(`a stream beside ${LOADS} loads, ${rounds} times`)
  const gaps = new Samples<Beside>()
  const longest = new Samples<Beside>()
  for (let round = 0; round < rounds; round += 1) {
    await driver.fill(1, PROMPT_TOKENS, context.signal)
    await stream(bench, (step) => step < WARM_UP_STEPS)
    const times: Record<Beside, number[]> = { quiet: [], spread: [], burst: [] }
    for (const beside of shuffled(besides, random)) times[beside] = await streamBeside(beside, { bench, adapters, round })
    const median = quantile(times.quiet, 0.5)
    for (const beside of besides) {
      for (const gap of times[beside]) gaps.add(beside, gap)
      longest.add(beside, Math.max(...times[beside]) / median)
    }
    driver.releaseAll()
  }
  return gapFigures(gaps, longest, bench.driver.engine.slots)
}

function gapFigures(gaps: Samples<Beside>, longest: Samples<Beside>, slots: number): Figure[] {
  const group = `Between two tokens of a text that is being decoded, while ${LOADS} adapters go from RAM into slots`
  const labels: Record<Beside, string> = {
    quiet: 'none goes',
    spread: 'one goes at every step',
    burst: `as many as there are slots (${slots}) go at once`,
  }
  return besides.flatMap((beside): Figure[] => {
    const label = labels[beside]
    const ratio = { id: `device.gap.${beside}.longest`, group, label: `${label}: longest ÷ median of none`, unit: 'x' } as const
    const figure = measured(ratio, summarise(longest.of(beside)))
    return [
      measured({ id: `device.gap.${beside}`, group, label, unit: 'ms' }, summarise(gaps.of(beside))),
      beside === 'quiet' ? figure : { ...figure, target: { at: 'most', value: 1.5 } },
    ]
  })
}

interface Streaming {
  readonly bench: BenchEngine
  readonly adapters: readonly PackedAdapter[]
  readonly round: number
}

/** @returns the times between two tokens in ms */
async function streamBeside(beside: Beside, streaming: Streaming): Promise<number[]> {
  const { bench, adapters, round } = streaming
  if (beside === 'quiet') return await stream(bench, (step) => step < QUIET_STEPS)
  if (beside === 'burst') {
    let isOver = false
    const loads = loadWaves(streaming).finally(() => {
      isOver = true
    })
    const gaps = await stream(bench, () => !isOver)
    await loads
    return gaps
  }
  const loads: Promise<void>[] = []
  const gaps = await stream(bench, (step) => {
    // A step begins: as the planner does, a load with it.
    if (step < LOADS) loads.push(loadInto(bench, adapters, round + step))
    return step < LOADS
  })
  await Promise.all(loads)
  return gaps
}

/** As many as there are slots at once, then the others. */
async function loadWaves({ bench, adapters, round }: Streaming): Promise<void> {
  const { slots } = bench.driver.engine
  for (let first = 0; first < LOADS; first += slots) {
    const wave = Array.from({ length: Math.min(slots, LOADS - first) }, (_, at) => loadInto(bench, adapters, round + first + at))
    await Promise.all(wave)
  }
}

/** One text's steps as the batching loop runs them, one behind the other, as long as `goesOn`. */
async function stream({ driver }: BenchEngine, goesOn: (step: number) => boolean): Promise<number[]> {
  const gaps: number[] = []
  let lastMs = performance.now()
  while (goesOn(gaps.length)) {
    await driver.decode(() => BASE_SLOT)
    const nowMs = performance.now()
    gaps.push(nowMs - lastMs)
    lastMs = nowMs
  }
  return gaps
}

/** Another adapter each time that a slot's turn comes. */
async function loadInto({ driver }: BenchEngine, adapters: readonly PackedAdapter[], turn: number): Promise<void> {
  const adapter = adapters[turn % adapters.length]
  if (adapter !== undefined) await driver.engine.loadAdapter((turn % driver.engine.slots) as SlotIndex, adapter)
}
