/** The default model in an engine of its own, with the example adapters in its slots, decoding golden cases greedily. */
import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import path from 'node:path'
import { BASE_SLOT, type Dtype, type SlotIndex } from '@quiver/protocol'
import { readAdapter } from '../../packages/cache/src/format/inspect.ts'
import { packAdapter } from '../../packages/cache/src/format/pack.ts'
import type { Engine } from '../../packages/worker/src/engine/engine.ts'
import type { DeviceBackend } from '../../packages/worker/src/engine/onnx/device/device.ts'
import { createOnnxEngine, packedDtype } from '../../packages/worker/src/engine/onnx/onnx-engine.ts'
import type { OperatorLibrary } from '../../packages/worker/src/engine/onnx/operator-library.ts'
import { defaultModel, openModel } from '../../packages/worker/src/model/model-source.ts'
import { baseLayout } from '../../packages/worker/src/model/model-spec.ts'
import { createProcessRunner } from '../../packages/worker/src/model/process-runner.ts'
import { holdingTimers } from '../../packages/worker/src/model/sleep.ts'
import { stepLogprobs, stepRows } from './engine-under-test.ts'
import type { GoldenCase } from './golden.ts'
import { digestFor } from './packed-adapters.ts'
import { cacheFolder } from './quiver-server.ts'
import { repositoryRoot } from './repository.ts'

const DTYPE = 'int8'
const MAX_RANK = 16
/** A device's memory is all there from the start. */
const DEVICE_TOKENS = 512

/** Another device and what it computes in; else this machine's processor in int8. */
export interface GoldenDevice {
  readonly dtype: Dtype
  readonly backend: DeviceBackend
}

/** The default model's graph, with `adapters` in the slots 0, 1, … */
export async function openGoldenEngine(
  operator: OperatorLibrary,
  adapters: readonly string[],
  device?: GoldenDevice,
): Promise<Engine> {
  const { dtype = DTYPE, backend } = device ?? {}
  const model = await openModel(
    defaultModel,
    { modelsDir: path.join(cacheFolder(), 'models'), hub: {}, python: 'python3', homeDir: homedir() },
    {
      timers: holdingTimers,
      runProcess: createProcessRunner(process.env),
      uniqueId: randomUUID,
      fetch,
      signal: new AbortController().signal,
      onProgress: () => {},
    },
  )
  try {
    const engine = await createOnnxEngine({
      model,
      dtype,
      device: backend,
      capacity: {
        sequences: 8,
        totalTokens: device === undefined ? 2048 : DEVICE_TOKENS,
        slots: adapters.length,
        maxRank: MAX_RANK,
        chunkTokens: 128,
      },
      cacheDir: path.join(cacheFolder(), 'graphs'),
      threads: 1,
      operator,
      onProgress: () => {},
    })
    for (const [slot, name] of adapters.entries()) await loadExample(engine, slot as SlotIndex, name, dtype)
    return engine
  } finally {
    await model.weights.close()
  }
}

/** Puts one of the example adapters into a slot. */
export async function loadExample(engine: Engine, slot: SlotIndex, name: string, dtype: Dtype): Promise<void> {
  const read = async (file: string) => new Uint8Array(await readFile(path.join(repositoryRoot, 'examples/adapters', name, file)))
  const files = { config: await read('adapter_config.json'), weights: await read('adapter_model.safetensors') }
  const layout = baseLayout(engine.model)
  const packing = { digest: digestFor(name), layout, dtype: packedDtype(dtype) }
  await engine.loadAdapter(slot, (await packAdapter(await readAdapter(files, layout, MAX_RANK), packing)).adapter)
}

/** What a case is to be answered with: the adapter's slot or none, and how many tokens. */
export interface GoldenTurn {
  readonly golden: GoldenCase
  readonly slot: number | undefined
  readonly tokens: number
}

export interface GoldenAnswer {
  readonly tokens: number[]
  /** The whole distribution that each token was chosen from: natural log-probabilities, [vocab]. */
  readonly logprobs: Float32Array[]
}

/** All turns at once: their prompts in one step, then a token of each that is not done in every step. */
export async function answerGreedily(engine: Engine, turns: readonly GoldenTurn[]): Promise<GoldenAnswer[]> {
  const answers = turns.map((): GoldenAnswer => ({ tokens: [], logprobs: [] }))
  for (let round = 0; ; round += 1) {
    const going = turns.flatMap((turn, id) => (turn.tokens > round ? [{ ...turn, id }] : []))
    if (going.length === 0) return answers
    const pieces = going.map(({ golden, slot = BASE_SLOT, id }) => {
      const tokens = round === 0 ? golden.prompt_ids : (answers[id]?.tokens.slice(-1) ?? [])
      return stepRows({ id, tokens, slot }, round === 0 ? 0 : golden.prompt_ids.length + round - 1)
    })
    const logprobs = await stepLogprobs(engine, pieces.flat())
    let end = 0
    for (const [at, { id }] of going.entries()) {
      end += pieces[at]?.length ?? 0
      const last = logprobs[end - 1] ?? new Float32Array()
      answers[id]?.tokens.push(last.indexOf(Math.max(...last)))
      answers[id]?.logprobs.push(last)
    }
  }
}
