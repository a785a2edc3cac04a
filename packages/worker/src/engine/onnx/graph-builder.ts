/**
 * Builds the one graph that serves every batch of a model: any number of sequences, any mix of adapters.
 *
 * Rows (tokens) are flat, [rows, hidden]. Per layer:
 *
 *   norm → qkv product + LoRA → attention (rotary, KV cache in place) → o product + LoRA
 *   → residual, norm → gate/up product + LoRA → SiLU · → down product + LoRA → residual
 *
 * Products that read the same input are one (module-groups.ts). Only `wanted` rows reach the head; it answers
 * log-probabilities of the whole vocabulary and the `top` best tokens. `pooled` rows, mostly none, are answered as they are
 * after the last norm. The LoRA part is in lora-nodes.ts or operator-nodes.ts, attention in attention-nodes.ts,
 * norms and gates in row-nodes.ts.
 *
 * Inputs: tokens [rows] i32 · wanted [wanted] i32 · pooled [pooled] i32 · top [1] i64 · those of attention and of LoRA.
 * Outputs: logprobs [wanted, vocab] f32 · first_logit [wanted, 1] f32, of token 0 · top_logprobs, top_ids [wanted, top] ·
 * hidden [pooled, hidden] f32 · those of attention.
 */

import type { PackedDtype } from '@quiver/cache'
import { writeF16 } from '@quiver/cache/format'
import type { Dtype, Progress } from '@quiver/protocol'
import type { ModelSpec, ModelWeights } from '../../model/model-spec.ts'
import { throwIfStopped } from '../../model/sleep.ts'
import { embeddingTensor, finalNormTensor, headTensor, layerTensor } from '../../model/tensor-names.ts'
import { activationType, castTo } from './activation-type.ts'
import { type AttentionForm, attentionNodes } from './attention-form.ts'
import type { AttentionNodes } from './attention-nodes.ts'
import { concatenated, GraphWeights } from './graph-weights.ts'
import { type LoraForm, loraNodes } from './lora-form.ts'
import type { LoraNodes } from './lora-site.ts'
import { type ModuleGroup, moduleGroups } from './module-groups.ts'
import { OnnxModelBuilder } from './onnx-model.ts'
import type { ProductForm } from './product-form.ts'
import { rotaryCaches } from './rope.ts'
import { type RowForm, type RowNodes, rowNodes } from './row-nodes.ts'
import type { WeightFile } from './weight-file.ts'

export interface GraphOptions {
  readonly spec: ModelSpec
  readonly weights: ModelWeights
  readonly dtype: Dtype
  /** How adapters are applied, and the element type of their pools. */
  readonly lora: LoraForm
  readonly packedDtype: PackedDtype
  readonly attention: AttentionForm
  /** What computes products with 8-bit weights. */
  readonly products: ProductForm
  /** What normalises and gates. */
  readonly rows: RowForm
  readonly positions: number
  readonly file: WeightFile
  readonly dataFileName: string
  readonly onProgress: (progress: Progress) => void
  /** Calls the building off, between two layers. */
  readonly signal: AbortSignal | undefined
}

/** @returns the encoded ModelProto; its weights are in `options.file` when this resolves. */
export async function buildGraph(options: GraphOptions): Promise<Uint8Array> {
  return await new GraphBuilder(options).build()
}

class GraphBuilder {
  readonly #options: GraphOptions
  readonly #spec: ModelSpec
  readonly #model: OnnxModelBuilder
  readonly #lora: LoraNodes
  readonly #rows: RowNodes
  readonly #weights: GraphWeights

  constructor(options: GraphOptions) {
    this.#options = options
    this.#spec = options.spec
    this.#model = new OnnxModelBuilder(options.dataFileName)
    const activation = activationType(options.dtype)
    this.#lora = loraNodes(options.lora, this.#model, options.packedDtype, activation)
    const { hiddenSize, intermediateSize, rmsNormEps: epsilon } = options.spec
    this.#rows = rowNodes(options.rows, this.#model, { hiddenSize, intermediateSize, epsilon, activation })
    this.#weights = new GraphWeights({ model: this.#model, ...options })
  }

  async build(): Promise<Uint8Array> {
    const { layerCount } = this.#spec
    const model = this.#model
    model.input('tokens', 'i32', ['rows'])
    model.input('wanted', 'i32', ['wanted'])
    model.input('pooled', 'i32', ['pooled'])
    model.input('top', 'i64', [1])
    const { cos, sin } = rotaryCaches(this.#spec, this.#options.positions)
    const rotaryShape = [this.#options.positions, this.#spec.headDim / 2]
    const rotary = {
      cos: await this.#weights.putActivations('rotary_cos', rotaryShape, cos),
      sin: await this.#weights.putActivations('rotary_sin', rotaryShape, sin),
    }
    const { attention: form, dtype } = this.#options
    const attentionPart = attentionNodes(form, model, this.#spec, { rotary, dtype })
    let residual = await this.#embedding()
    let pending: string | undefined
    for (let layer = 0; layer < layerCount; layer += 1) {
      this.#progress(layer)
      const norm = (name: string) => this.#weights.vector(layerTensor(layer, `${name}.weight`))
      const first = this.#norm(residual, pending, await norm('input_layernorm'))
      const attention = await this.#attention(layer, first.normed, attentionPart)
      const second = this.#norm(first.sum, attention, await norm('post_attention_layernorm'))
      residual = second.sum
      pending = await this.#feedForward(layer, second.normed)
    }
    this.#progress(layerCount)
    await this.#head(residual, pending)
    this.#progress(layerCount + 1)
    return model.encode()
  }

  /** @throws ServingError `client_closed` when the building was called off */
  #progress(done: number): void {
    throwIfStopped(this.#options.signal)
    this.#options.onProgress({ phase: 'convert', label: this.#spec.id, done, total: this.#spec.layerCount + 1, unit: 'steps' })
  }

  async #embedding(): Promise<string> {
    const name = embeddingTensor
    const shape = [this.#spec.vocabSize, this.#spec.hiddenSize]
    const values = await this.#weights.read(name)
    if (['fp32', 'fp16', 'bf16'].includes(this.#options.dtype)) {
      return this.#model.node('Gather', [await this.#weights.putActivations(name, shape, values), 'tokens'])
    }
    const halves = new Uint16Array(values.length)
    writeF16(values, halves)
    const rows = this.#model.node('Gather', [await this.#weights.put(name, 'f16', shape, halves), 'tokens'])
    return this.#model.node('Cast', [rows], { to: 1 })
  }

  /** RMS norm of `residual + added`; also answers the sum. */
  #norm(residual: string, added: string | undefined, weight: string, rowCount = 'rows'): { normed: string; sum: string } {
    if (added !== undefined) return this.#rows.addNorm(residual, added, weight, rowCount)
    const epsilon = { float: this.#spec.rmsNormEps }
    return { normed: this.#model.node('SimplifiedLayerNormalization', [residual, weight], { axis: -1, epsilon }), sum: residual }
  }

  async #attention(layer: number, x: string, nodes: AttentionNodes): Promise<string> {
    const qkv = await this.#product(layer, moduleGroups[0], x, 'self_attn', this.#spec.qkvBias)
    const norm = (name: string) => this.#weights.vector(layerTensor(layer, `self_attn.${name}.weight`))
    const norms = this.#spec.qkNorm ? { q: await norm('q_norm'), k: await norm('k_norm') } : undefined
    const attended = nodes.add(layer, qkv, norms)
    return await this.#product(layer, moduleGroups[1], attended, 'self_attn', this.#spec.outputBias)
  }

  async #feedForward(layer: number, x: string): Promise<string> {
    const { mlpBias } = this.#spec
    const both = await this.#product(layer, moduleGroups[2], x, 'mlp', mlpBias)
    return await this.#product(layer, moduleGroups[3], this.#rows.gate(both), 'mlp', mlpBias)
  }

  /** One product for all modules of a group, their biases, and what the adapters add. */
  async #product(layer: number, group: ModuleGroup, x: string, parent: string, bias: boolean): Promise<string> {
    const names = group.modules.map((module) => layerTensor(layer, `${parent}.${module}`))
    const parts = await Promise.all(names.map((name) => this.#weights.read(`${name}.weight`)))
    const weight = concatenated(parts)
    const label = layerTensor(layer, group.name)
    let y = await this.#weights.product(label, x, weight, this.#inFeatures(group))
    if (bias) {
      const values = concatenated(await Promise.all(names.map((name) => this.#weights.read(`${name}.bias`))))
      y = this.#model.node('Add', [y, await this.#weights.putActivations(`${label}.bias`, [values.length], values)])
    }
    const inFeatures = this.#inFeatures(group)
    const outFeatures = parts.map((part) => part.length / inFeatures)
    return this.#lora.add({ layer, group, x, inFeatures, outFeatures }, y)
  }

  #inFeatures(group: ModuleGroup): number {
    const { hiddenSize, headCount, headDim, intermediateSize } = this.#spec
    return group.name === 'o' ? headCount * headDim : group.name === 'down' ? intermediateSize : hiddenSize
  }

  async #head(residual: string, pending: string | undefined): Promise<void> {
    const model = this.#model
    const { vocabSize, hiddenSize, tiedEmbeddings } = this.#spec
    const norm = await this.#weights.vector(finalNormTensor)
    const finished = (rows: string): string => {
      const [sum, added] = [residual, pending ?? ''].map((part) => model.node('Gather', [part, rows]))
      return this.#norm(sum as string, added, norm, rows).normed
    }
    const normed = finished('wanted')
    // A node of its own gives the output its name; of no rows it costs nothing.
    this.#intoFloats(finished('pooled'), 'hidden')
    model.output('hidden', 'f32', ['pooled', hiddenSize])
    const weight = await this.#weights.read(tiedEmbeddings ? embeddingTensor : headTensor)
    // The head decides between near equals: it stays at 8 bits when the layers have 4.
    const dtype = this.#options.dtype === 'int4' ? 'int8' : this.#options.dtype
    const product = await this.#weights.product('lm_head', normed, weight, hiddenSize, dtype)
    const logits = this.#floats(product)
    model.nodeInto('LogSoftmax', [logits], ['logprobs'], { axis: -1 })
    // One logit a row tells the sum that the soft-max took away, which rules on raw logits need.
    model.nodeInto('Gather', [logits, model.constant([0])], ['first_logit'], { axis: 1 })
    model.nodeInto('TopK', ['logprobs', 'top'], ['top_logprobs', 'top_ids'], { axis: -1, largest: 1, sorted: 1 })
    model.output('logprobs', 'f32', ['wanted', vocabSize])
    model.output('first_logit', 'f32', ['wanted', 1])
    model.output('top_logprobs', 'f32', ['wanted', 'top_count'])
    model.output('top_ids', 'i64', ['wanted', 'top_count'])
  }

  /** The same values in float32. */
  #floats(value: string): string {
    return activationType(this.#options.dtype) === 'f32' ? value : this.#model.node('Cast', [value], { to: castTo.f32 })
  }

  /** A node of its own gives an output its name. */
  #intoFloats(value: string, name: string): void {
    if (activationType(this.#options.dtype) === 'f32') this.#model.nodeInto('Identity', [value], [name])
    else this.#model.nodeInto('Cast', [value], [name], { to: castTo.f32 })
  }
}
