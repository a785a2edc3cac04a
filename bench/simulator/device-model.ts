/** How long things take on a simulated worker. */

export interface DeviceModel {
  /** A step: fixed, and more for each row that decodes and each prompt token. In ms. */
  readonly stepMs: number
  readonly decodeRowMs: number
  readonly promptTokenMs: number
  /** Loads: fixed and by size, in ms and ms per MiB. */
  readonly loads: Readonly<Record<'ram' | 'disk' | 'origin', { readonly fixedMs: number; readonly msPerMib: number }>>
}

/**
 * SmolLM2-135M in int8 on two cores, as DESIGN.md and docs/benchmarks.md have it: one row 4 ms, 16 rows 17 ms, 2,000 prompt tokens a
 * second; 5 MB from RAM in 5 ms, from disk in 15 ms, from an object store in 150 ms.
 */
export const twoCores: DeviceModel = {
  stepMs: 3.2,
  decodeRowMs: 0.85,
  promptTokenMs: 0.5,
  loads: {
    ram: { fixedMs: 0.5, msPerMib: 0.9 },
    disk: { fixedMs: 5, msPerMib: 2 },
    origin: { fixedMs: 100, msPerMib: 10 },
  },
}

/**
 * A model of 8 billion parameters on one GPU, in round figures that nobody has measured here: 16 rows 14 ms, 10,000 prompt tokens a second;
 * an adapter of 42 MB from RAM in 11 ms, from disk in 65 ms, from an object store in 400 ms.
 */
export const oneGpu: DeviceModel = {
  stepMs: 12,
  decodeRowMs: 0.15,
  promptTokenMs: 0.1,
  loads: {
    ram: { fixedMs: 1, msPerMib: 0.25 },
    disk: { fixedMs: 5, msPerMib: 1.5 },
    origin: { fixedMs: 80, msPerMib: 8 },
  },
}

const MIB = 1024 * 1024

export function loadMs(model: DeviceModel, from: 'ram' | 'disk' | 'origin', bytes: number): number {
  const { fixedMs, msPerMib } = model.loads[from]
  return fixedMs + (msPerMib * bytes) / MIB
}

/** Steps a second of a full batch divided by the tokens of a request: how many requests a second one worker can end. */
export function capacityPerSecond(model: DeviceModel, sequences: number, promptTokens: number, newTokens: number): number {
  const stepMs = model.stepMs + model.decodeRowMs * sequences
  const requestMs = (stepMs * newTokens) / sequences + promptTokens * model.promptTokenMs
  return 1000 / requestMs
}
