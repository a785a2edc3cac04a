import type { PackedAdapter, PackedModule } from '../../packages/cache/src/format/packed-adapter.ts'
import type { AdapterDigest, BaseLayout, ModuleName } from '../../packages/protocol/src/index.ts'
import { randomFrom } from './random-seed.ts'
import type { LoraDelta } from './reference-model.ts'

export interface RandomAdapter {
  readonly packed: PackedAdapter
  /** What it adds, computed plainly: (x Aᵀ) Bᵀᵀ with the scale already in B. */
  readonly delta: LoraDelta
}

interface Shape {
  readonly seed: number
  readonly rank: number
  /** Modules that carry weights; all by default. */
  readonly modules?: readonly ModuleName[]
  /** Rank of one module where it differs. */
  readonly rankOf?: (module: ModuleName, layer: number) => number
}

/** An adapter of random weights in float32, large enough to change every answer. */
export function randomAdapter(layout: BaseLayout, { seed, rank, modules, rankOf = () => rank }: Shape): RandomAdapter {
  const random = randomFrom(seed)
  const values = (length: number) => Float32Array.from({ length }, () => (random() - 0.5) * 0.4)
  const packed: PackedModule[] = []
  for (let layer = 0; layer < layout.layerCount; layer += 1) {
    for (const { name, inFeatures, outFeatures } of layout.modules) {
      if (modules && !modules.includes(name)) continue
      const own = rankOf(name, layer)
      packed.push({ layer, module: name, rank: own, a: values(own * inFeatures), b: values(own * outFeatures) })
    }
  }
  const digest = seed.toString(16).padStart(64, '0') as AdapterDigest
  const byPlace = new Map(packed.map((module) => [`${module.layer}.${module.module}`, module]))
  return {
    packed: { digest, dtype: 'f32', rank: Math.max(...packed.map((module) => module.rank)), modules: packed, bytes: 0 },
    delta: ({ layer, module }, x) => {
      const pair = byPlace.get(`${layer}.${module}`)
      return pair && deltaOf(pair, x)
    },
  }
}

function deltaOf({ rank, a, b }: PackedModule, x: Float64Array): Float64Array {
  const out = new Float64Array(b.length / rank)
  for (let r = 0; r < rank; r += 1) {
    let shrunk = 0
    for (let i = 0; i < x.length; i += 1) shrunk += (a[r * x.length + i] ?? 0) * (x[i] ?? 0)
    for (let o = 0; o < out.length; o += 1) out[o] = (out[o] ?? 0) + shrunk * (b[r * out.length + o] ?? 0)
  }
  return out
}
