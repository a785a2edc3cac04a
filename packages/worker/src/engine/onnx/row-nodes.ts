/**
 * What takes each row by itself, between the products: by standard operators, which run everywhere, or by our own on a CPU
 * (kernels/operator/rows_op.h, docs/adr/0029).
 */
import type { ActivationType } from './activation-type.ts'
import type { OnnxModelBuilder } from './onnx-model.ts'

export type RowForm = 'standard' | 'operator'

export interface RowNodes {
  /**
   * RMS norm of a sum.
   * @param residual [rows, features]
   * @param added the same
   * @param weight [features]
   * @param rowCount the graph's name for how many rows there are
   */
  addNorm(residual: string, added: string, weight: string, rowCount: string): { readonly normed: string; readonly sum: string }
  /** @param both [rows, 2 · features], gate and up side by side. @returns silu(gate) · up, [rows, features] */
  gate(both: string): string
}

const MICROSOFT = 'com.microsoft'

export interface RowOptions {
  /** Values in a row of the residual, and between gate/up and down. */
  readonly hiddenSize: number
  readonly intermediateSize: number
  readonly epsilon: number
  readonly activation: ActivationType
}

export function rowNodes(form: RowForm, model: OnnxModelBuilder, options: RowOptions): RowNodes {
  return form === 'operator' ? operatorRows(model, options) : standardRows(model, options)
}

function standardRows(model: OnnxModelBuilder, { intermediateSize, epsilon, activation }: RowOptions): RowNodes {
  const silu = (gate: string): string => {
    // QuickGelu is not known to compute in bfloat16 everywhere; the runtime joins the two where it can.
    if (activation === 'bf16') return model.node('Mul', [gate, model.node('Sigmoid', [gate])])
    return model.node('QuickGelu', [gate], { alpha: { float: 1 } }, MICROSOFT)
  }
  return {
    addNorm(residual, added, weight) {
      const [normed = '', sum = ''] = model.fresh(2, 'norm')
      const outputs = [normed, '', '', sum]
      const attributes = { epsilon: { float: epsilon } }
      model.nodeInto('SkipSimplifiedLayerNormalization', [residual, added, weight], outputs, attributes, MICROSOFT)
      return { normed, sum }
    },
    gate(both) {
      const [gate = '', up = ''] = model.fresh(2, 'mlp')
      model.nodeInto('Split', [both, model.constant([intermediateSize, intermediateSize])], [gate, up], { axis: 1 })
      return model.node('Mul', [silu(gate), up])
    },
  }
}

function operatorRows(model: OnnxModelBuilder, { hiddenSize, intermediateSize, epsilon }: RowOptions): RowNodes {
  // Operators that are not ONNX's own leave shapes unknown, and what follows plans by them.
  return {
    addNorm(residual, added, weight, rowCount) {
      const [normed = '', sum = ''] = model.fresh(2, 'norm')
      model.nodeInto('AddNorm', [residual, added, weight], [normed, sum], { epsilon: { float: epsilon } }, 'quiver')
      for (const output of [normed, sum]) model.shape(output, 'f32', [rowCount, hiddenSize])
      return { normed, sum }
    },
    gate(both) {
      const gated = model.node('Gate', [both], {}, 'quiver')
      model.shape(gated, 'f32', ['rows', intermediateSize])
      return gated
    },
  }
}
