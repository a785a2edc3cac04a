/**
 * The plain truth of a forward pass: no cache, no batching, float64 sums, one token after the other. Slow and readable on
 * purpose; engines are compared with it.
 *
 *   x = embedding[token]
 *   per layer:  x += o(attention(norm(x)));  x += down(silu(gate(norm(x))) · up(norm(x)))
 *   logits = head(norm(x))
 */
import { assertNever, type ModuleName, moduleParent } from '@quiver/protocol'
import type { ModelSpec, ModelWeights } from '../../packages/worker/src/model/model-spec.ts'

/** What an adapter adds to the output of one linear module for one row: [out], or undefined for nothing. */
export type LoraDelta = (at: { layer: number; module: ModuleName; row: number }, x: Float64Array) => Float64Array | undefined

interface Linear {
  /** [out, in] */
  readonly weight: Float32Array
  readonly bias: Float32Array | undefined
}

interface Layer {
  readonly inputNorm: Float32Array
  readonly postNorm: Float32Array
  readonly qNorm: Float32Array | undefined
  readonly kNorm: Float32Array | undefined
  readonly linear: Readonly<Record<ModuleName, Linear>>
}

export class ReferenceModel {
  readonly spec: ModelSpec
  readonly #embedding: Float32Array
  readonly #layers: readonly Layer[]
  readonly #finalNorm: Float32Array
  readonly #head: Float32Array

  private constructor(
    spec: ModelSpec,
    parts: { embedding: Float32Array; layers: Layer[]; finalNorm: Float32Array; head: Float32Array },
  ) {
    this.spec = spec
    this.#embedding = parts.embedding
    this.#layers = parts.layers
    this.#finalNorm = parts.finalNorm
    this.#head = parts.head
  }

  /** Reads all weights into memory. */
  static async load(spec: ModelSpec, weights: ModelWeights): Promise<ReferenceModel> {
    const embedding = await weights.read('model.embed_tokens.weight')
    const layers: Layer[] = []
    for (let layer = 0; layer < spec.layerCount; layer++) layers.push(await readLayer(spec, weights, `model.layers.${layer}`))
    const finalNorm = await weights.read('model.norm.weight')
    const head = spec.tiedEmbeddings ? embedding : await weights.read('lm_head.weight')
    return new ReferenceModel(spec, { embedding, layers, finalNorm, head })
  }

  /** @returns the logits of every position, [tokens, vocabulary] */
  logits(tokens: readonly number[], lora: LoraDelta = () => undefined): Float32Array {
    const { vocabSize } = this.spec
    const rows = this.hidden(tokens, lora)
    const logits = new Float32Array(rows.length * vocabSize)
    for (const [row, x] of rows.entries()) {
      logits.set(multiply({ weight: this.#head, bias: undefined }, x), row * vocabSize)
    }
    return logits
  }

  /** @returns the hidden state of every position after the last norm, [tokens][hidden] */
  hidden(tokens: readonly number[], lora: LoraDelta = () => undefined): Float64Array[] {
    const { hiddenSize, rmsNormEps } = this.spec
    const rows = tokens.map((token) => Float64Array.from(this.#embedding.subarray(token * hiddenSize, (token + 1) * hiddenSize)))
    for (const [index, layer] of this.#layers.entries()) this.#runLayer(index, layer, rows, lora)
    return rows.map((x) => rmsNorm(x, this.#finalNorm, rmsNormEps))
  }

  /** Updates `rows`, the residual stream, in place. */
  #runLayer(index: number, layer: Layer, rows: readonly Float64Array[], lora: LoraDelta): void {
    const { rmsNormEps } = this.spec
    const apply = (module: ModuleName, row: number, x: Float64Array): Float64Array => {
      const y = multiply(layer.linear[module], x)
      const delta = lora({ layer: index, module, row }, x)
      return delta === undefined ? y : add(y, delta)
    }
    const normed = rows.map((x) => rmsNorm(x, layer.inputNorm, rmsNormEps))
    const queries = normed.map((x, row) => this.#rotate(apply('q_proj', row, x), layer.qNorm, row))
    const keys = normed.map((x, row) => this.#rotate(apply('k_proj', row, x), layer.kNorm, row))
    const values = normed.map((x, row) => apply('v_proj', row, x))
    for (const [row, x] of rows.entries()) {
      add(x, apply('o_proj', row, this.#attend(row, queries[row] as Float64Array, keys, values)))
      const inner = rmsNorm(x, layer.postNorm, rmsNormEps)
      const gate = apply('gate_proj', row, inner)
      const up = apply('up_proj', row, inner)
      add(
        x,
        apply(
          'down_proj',
          row,
          gate.map((value, i) => (value / (1 + Math.exp(-value))) * at(up, i)),
        ),
      )
    }
  }

  /** Normalises each head where the model does, then turns dimension i with i + headDim/2 by position × frequency i. */
  #rotate(heads: Float64Array, norm: Float32Array | undefined, position: number): Float64Array {
    const { headDim, rmsNormEps } = this.spec
    const half = headDim / 2
    const frequencies = inverseFrequencies(this.spec)
    for (let start = 0; start < heads.length; start += headDim) {
      const head = heads.subarray(start, start + headDim)
      if (norm !== undefined) head.set(rmsNorm(head, norm, rmsNormEps))
      for (let i = 0; i < half; i++) {
        const angle = position * at(frequencies, i)
        const [first, second] = [at(head, i), at(head, i + half)]
        head[i] = first * Math.cos(angle) - second * Math.sin(angle)
        head[i + half] = second * Math.cos(angle) + first * Math.sin(angle)
      }
    }
    return heads
  }

  /** Softmax attention of one row over itself and what is before it inside the window; heads share key-value heads in groups. */
  #attend(row: number, query: Float64Array, keys: readonly Float64Array[], values: readonly Float64Array[]): Float64Array {
    const { headCount, kvHeadCount, headDim, slidingWindow } = this.spec
    const first = slidingWindow > 0 ? Math.max(0, row - slidingWindow + 1) : 0
    const output = new Float64Array(headCount * headDim)
    for (let head = 0; head < headCount; head++) {
      const kv = Math.floor(head / (headCount / kvHeadCount)) * headDim
      const q = query.subarray(head * headDim, (head + 1) * headDim)
      const scores = keys.slice(first, row + 1).map((key) => dot(q, key.subarray(kv, kv + headDim)) / Math.sqrt(headDim))
      const most = Math.max(...scores)
      const weights = scores.map((score) => Math.exp(score - most))
      const total = weights.reduce((sum, weight) => sum + weight, 0)
      for (const [offset, weight] of weights.entries()) {
        const value = values[first + offset] as Float64Array
        for (let i = 0; i < headDim; i++) {
          output[head * headDim + i] = at(output, head * headDim + i) + (weight / total) * at(value, kv + i)
        }
      }
    }
    return output
  }
}

/** Radians per position of each pair, [headDim / 2]. Written apart from the engine's (rope.ts), so that the two check each other. */
export function inverseFrequencies(spec: ModelSpec): Float64Array {
  const half = spec.headDim / 2
  return Float64Array.from({ length: half }, (_, i) => scaleFrequency(spec, spec.ropeTheta ** (-i / half), i))
}

function scaleFrequency(spec: ModelSpec, frequency: number, index: number): number {
  const scaling = spec.ropeScaling
  switch (scaling.type) {
    case 'none':
      return frequency
    case 'linear':
      return frequency / scaling.factor
    case 'factors':
      return frequency / (scaling.factors[index] as number)
    case 'llama3': {
      // Turns within the original context: many keep their speed, few are slowed by the factor, between them a ramp.
      const turns = (scaling.originalMaxPositions * frequency) / (2 * Math.PI)
      const ramp = (turns - scaling.lowFreqFactor) / (scaling.highFreqFactor - scaling.lowFreqFactor)
      const kept = Math.min(1, Math.max(0, ramp))
      return frequency * (kept + (1 - kept) / scaling.factor)
    }
    default:
      return assertNever(scaling)
  }
}

async function readLayer(spec: ModelSpec, weights: ModelWeights, prefix: string): Promise<Layer> {
  const norm = (name: string) => weights.read(`${prefix}.${name}.weight`)
  const linear = async (module: ModuleName, bias: boolean): Promise<Linear> => {
    const name = `${prefix}.${moduleParent[module]}.${module}`
    return { weight: await weights.read(`${name}.weight`), bias: bias ? await weights.read(`${name}.bias`) : undefined }
  }
  return {
    inputNorm: await norm('input_layernorm'),
    postNorm: await norm('post_attention_layernorm'),
    qNorm: spec.qkNorm ? await norm('self_attn.q_norm') : undefined,
    kNorm: spec.qkNorm ? await norm('self_attn.k_norm') : undefined,
    linear: {
      q_proj: await linear('q_proj', spec.qkvBias),
      k_proj: await linear('k_proj', spec.qkvBias),
      v_proj: await linear('v_proj', spec.qkvBias),
      o_proj: await linear('o_proj', spec.outputBias),
      gate_proj: await linear('gate_proj', spec.mlpBias),
      up_proj: await linear('up_proj', spec.mlpBias),
      down_proj: await linear('down_proj', spec.mlpBias),
    },
  }
}

function at(values: Float64Array | Float32Array, index: number): number {
  return values[index] as number
}

function dot(a: Float64Array, b: Float64Array | Float32Array): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += at(a, i) * at(b, i)
  return sum
}

function add(target: Float64Array, more: Float64Array): Float64Array {
  for (let i = 0; i < target.length; i++) target[i] = at(target, i) + at(more, i)
  return target
}

function multiply({ weight, bias }: Linear, x: Float64Array): Float64Array {
  const out = weight.length / x.length
  const y = new Float64Array(out)
  for (let row = 0; row < out; row++) {
    y[row] = dot(x, weight.subarray(row * x.length, (row + 1) * x.length)) + (bias === undefined ? 0 : at(bias, row))
  }
  return y
}

function rmsNorm(x: Float64Array, weight: Float32Array, epsilon: number): Float64Array {
  const scale = 1 / Math.sqrt(dot(x, x) / x.length + epsilon)
  return x.map((value, i) => value * scale * at(weight, i))
}
