import type { SlotView } from '@quiver/cache'
import type { AdapterDigest, SequenceId, SlotIndex } from '@quiver/protocol'
import type { RunningView, StepView, WaitingView } from '../../packages/worker/src/step/step-plan.ts'
import { fakeDigest } from './fake-adapter-cache.ts'

/** Short ways to write down what a planner sees. Adapters go by letters. */
export const digestOf = (name: string): AdapterDigest => fakeDigest(name)

const common = (id: number, promptLength: number) => ({
  sequence: id as SequenceId,
  client: { tenant: 'tests', priority: 'normal' as const },
  deadlineAtMs: 1_000_000,
  fate: 'live' as const,
  promptLength,
  top: 1,
  promptDetails: false,
  embeds: false,
})

type Overrides = Partial<Pick<WaitingView, 'client' | 'deadlineAtMs' | 'fate' | 'top' | 'promptDetails' | 'embeds'>>
type WaitingOptions = {
  prompt?: number
  adapter?: string
  arriving?: boolean
  arrivesByMs?: number
  arrivedAtMs?: number
  cached?: number
} & Overrides
type RunningOptions = {
  prompt?: number
  computed?: number
  generated?: number
  slot?: number
  adapter?: string
  generation?: number
} & Overrides

export function waiting(id: number, options: WaitingOptions = {}): WaitingView {
  const { prompt = 3, adapter, arriving = false, arrivesByMs = 1_000_000, arrivedAtMs = 0, ...rest } = options
  return {
    ...common(id, prompt),
    arrivedAtMs,
    arrivesByMs,
    tokens: Array.from({ length: prompt }, (_, index) => index),
    adapter:
      adapter === undefined
        ? { kind: 'base' }
        : { kind: 'adapter', digest: digestOf(adapter), state: arriving ? 'arriving' : 'ready' },
    ...rest,
  }
}

/** `computed` tokens are done; `generated` ones follow the prompt. */
export function running(id: number, options: RunningOptions = {}): RunningView {
  const { prompt = 3, generated = 1, slot, adapter, generation = 1, computed = prompt + generated - 1, ...others } = options
  return {
    ...common(id, prompt),
    tokens: Array.from({ length: prompt + generated }, (_, index) => index),
    computed,
    adapter:
      slot === undefined || adapter === undefined
        ? { kind: 'base' }
        : { kind: 'adapter', digest: digestOf(adapter), slot: slot as SlotIndex, generation },
    ...others,
  }
}

export const free = (slot: number): SlotView => ({ state: 'free', slot: slot as SlotIndex, generation: 0 })
export const loading = (slot: number, adapter: string): SlotView => ({
  state: 'loading',
  slot: slot as SlotIndex,
  generation: 1,
  digest: digestOf(adapter),
})
/** What a slot is worth is when it was last used, unless a test says otherwise. */
export const resident = (slot: number, adapter: string, leaseCount = 0, lastUsedMs = 0, keepScore = lastUsedMs): SlotView => ({
  state: 'resident',
  slot: slot as SlotIndex,
  generation: 1,
  digest: digestOf(adapter),
  leaseCount,
  lastUsedMs,
  keepScore,
})

export function view(parts: Partial<StepView>): StepView {
  return deepFreeze({ nowMs: 0, running: [], waiting: [], slots: [], ...parts })
}

/** So that a planner that writes to its input fails at once. */
export function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    for (const child of Object.values(value)) deepFreeze(child)
  }
  return value
}
