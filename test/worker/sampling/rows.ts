import type { RowOutput } from '../../../packages/worker/src/engine/engine.ts'

/** The row that an engine gives for these logits. */
export function rowOf(logits: readonly number[], options: { readonly withLogSumExp?: boolean } = {}): RowOutput {
  const most = Math.max(...logits)
  const logSumExp = most + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - most), 0))
  const logprobs = Float32Array.from(logits, (logit) => logit - logSumExp)
  const topIds = [...logprobs.keys()].sort((a, b) => (logprobs[b] ?? 0) - (logprobs[a] ?? 0) || a - b)
  const row = { row: 0, topIds, topLogprobs: topIds.map((id) => logprobs[id] ?? 0), logprobs }
  return options.withLogSumExp === false ? row : { ...row, logSumExp }
}
