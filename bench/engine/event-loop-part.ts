/** How late timers run while the engine decodes a full batch without a break: what an HTTP answer would have to wait. */
import type { SlotIndex } from '@quiver/protocol'
import type { BenchContext } from '../bench.ts'
import type { Figure } from '../shared/figure.ts'
import { LagMeter } from '../shared/lag-meter.ts'
import type { BenchEngine } from './bench-engine.ts'

const PROMPT_TOKENS = 128

export async function measureEventLoop(context: BenchContext, { driver }: BenchEngine): Promise<Figure[]> {
  const { sequences } = driver.engine.capacity
  const steps = context.quick ? 24 : 96
  context.progress(`event loop during ${steps} steps of ${sequences} rows`)
  await driver.fill(sequences, PROMPT_TOKENS, context.signal)
  const meter = new LagMeter()
  meter.start()
  for (let step = 0; step < steps; step += 1) {
    context.signal.throwIfAborted()
    await driver.decode((row) => row as SlotIndex)
  }
  const lag = await meter.stop()
  driver.releaseAll()
  const group = `Event loop of the engine's process, ${sequences} rows with ${sequences} adapters decoding`
  return [
    { id: 'event-loop.median', group, label: 'timers late by, median', unit: 'ms', value: lag.median },
    { id: 'event-loop.p99', group, label: 'timers late by, p99', unit: 'ms', value: lag.p99, target: { at: 'most', value: 20 } },
    { id: 'event-loop.max', group, label: 'timers late by, longest', unit: 'ms', value: lag.max },
  ]
}
