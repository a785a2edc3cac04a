import type { AdapterDigest, ModuleName } from '@quiver/protocol'

/** Element type of packed weights: what the engine's adapter pools hold. `f16` and `bf16` are kept as raw bits. */
export type PackedDtype = 'f16' | 'bf16' | 'f32'
export type PackedArray = Uint16Array<ArrayBuffer> | Float32Array<ArrayBuffer>

/** The low-rank pair of one linear module of one layer, ready to be copied into a slot. */
export interface PackedModule {
  readonly layer: number
  readonly module: ModuleName
  /** 1 … rank of the adapter. */
  readonly rank: number
  /** A, [rank, in], row-major. */
  readonly a: PackedArray
  /** Bᵀ, [rank, out], row-major, already multiplied by the adapter's scale (alpha/r, or alpha/√r with rsLoRA). */
  readonly b: PackedArray
}

/**
 * An adapter in the engine's layout and element type: one buffer, read with one call and copied without parsing.
 * A module that the adapter leaves out is absent from `modules`.
 */
export interface PackedAdapter {
  readonly digest: AdapterDigest
  readonly dtype: PackedDtype
  /** The largest rank of any module: what a slot must hold. */
  readonly rank: number
  readonly modules: readonly PackedModule[]
  /** Size of the whole buffer in bytes. */
  readonly bytes: number
}
