/**
 * What each element type of the weights costs in quality: a text (text.txt) is read by every engine side by side with fp32's, in
 * windows of 256 tokens, and their distributions over each next token are compared. Nothing is timed, nothing is drawn at random.
 */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { BASE_SLOT, type Dtype, type LoraMode, type SequenceId } from '@quiver/protocol'
import type { Engine } from '../../packages/worker/src/engine/engine.ts'
import { createTokenizer } from '../../packages/worker/src/tokenizer/create-tokenizer.ts'
import type { Bench, BenchContext } from '../bench.ts'
import { openBenchModel, openEngine } from '../engine/opened-model.ts'
import type { Figure, Target } from '../shared/figure.ts'
import { Divergence } from './divergence.ts'

const WINDOW_TOKENS = 256
const QUICK_WINDOWS = 2
const MOST_KL: Target = { at: 'most', value: 0.01 }
const MOST_PERPLEXITY: Target = { at: 'most', value: 1.01 }

/** What is compared with fp32 by our own operators. The first is the default, and the one that targets are for. */
const variants = {
  int8: { label: 'int8', dtype: 'int8', lora: 'auto' },
  'int8-standard': { label: 'int8 by standard operators', dtype: 'int8', lora: 'standard' },
  int4: { label: 'int4', dtype: 'int4', lora: 'auto' },
} as const satisfies Record<string, { label: string; dtype: Dtype; lora: LoraMode }>
type Variant = keyof typeof variants
const names = Object.keys(variants) as Variant[]

export const qualityBench: Bench = {
  name: 'quality',
  title: 'Quality of quantised weights',
  description:
    'How far the distributions of quantised weights are from those of fp32, token by token, over a text of prose in five languages, ' +
    'letters, code, tables and technical pages (`bench/quality/text.txt`) in windows of 256 tokens: perplexity and the share of tokens ' +
    'with the same most likely successor as parts of fp32’s, the mean and the 99th percentile of the Kullback-Leibler divergence.',
  parts: names,
  async run(context) {
    const wanted = names.filter((name) => context.only.length === 0 || context.only.includes(name))
    const windows = await textWindows(context)
    const shape = { slots: 1, maxRank: 8, sequences: 1 }
    context.progress(`opening fp32 and ${wanted.join(', ')}`)
    const reference = await openEngine(context, { ...shape, dtype: 'fp32', lora: 'auto' })
    const others = []
    for (const name of wanted) {
      others.push({ name, ...(await openEngine(context, { ...shape, ...variants[name] })), divergence: new Divergence() })
    }
    for (const [index, tokens] of windows.entries()) {
      context.signal.throwIfAborted()
      if (index % 4 === 0) context.progress(`window ${index + 1} of ${windows.length}`)
      await compareWindow(reference.engine, others, tokens, index)
    }
    for (const { close } of [reference, ...others]) await close()
    const group = `A text of ${windows.length * WINDOW_TOKENS} tokens, against fp32`
    return others.flatMap(({ name, divergence }) => figuresOf(name, group, divergence))
  },
}

/** The text's tokens, without the rest that does not fill a window. */
async function textWindows(context: BenchContext): Promise<number[][]> {
  const text = await readFile(path.join(import.meta.dirname, 'text.txt'), 'utf8')
  const model = await openBenchModel(context)
  await model.weights.close()
  const tokens = createTokenizer(model.tokenizerFiles, { wallClockMs: () => 0 }).encode(text)
  const count = Math.floor(tokens.length / WINDOW_TOKENS)
  const windows = Array.from({ length: count }, (_, i) => tokens.slice(i * WINDOW_TOKENS, (i + 1) * WINDOW_TOKENS))
  return context.quick ? windows.slice(0, QUICK_WINDOWS) : windows
}

async function compareWindow(
  reference: Engine,
  others: readonly { readonly engine: Engine; readonly divergence: Divergence }[],
  tokens: readonly number[],
  index: number,
): Promise<void> {
  const sequence = index as SequenceId
  const { chunkTokens } = reference.capacity
  for (let start = 0; start < tokens.length; start += chunkTokens) {
    const chunk = tokens.slice(start, start + chunkTokens)
    const rows = chunk.map((token, i) => ({ sequence, position: start + i, token, slot: BASE_SLOT }))
    // The last token of a window has no successor in it.
    const wanted = rows.filter(({ position }) => position + 1 < tokens.length).map((_, row) => ({ row, top: 1 }))
    const expected = await reference.step({ rows, wanted })
    for (const { engine, divergence } of others) {
      const answered = await engine.step({ rows, wanted })
      for (const [row, { logprobs }] of expected.entries()) {
        divergence.add(logprobs, answered[row]?.logprobs ?? new Float32Array(), tokens[start + row + 1] ?? -1)
      }
    }
  }
  for (const engine of [reference, ...others.map(({ engine: own }) => own)]) engine.release(sequence)
}

function figuresOf(name: Variant, group: string, divergence: Divergence): Figure[] {
  const { label } = variants[name]
  const { perplexity, meanKl, p99Kl, top1 } = divergence.summary()
  const isDefault = name === names[0]
  const figure = (id: string, what: string, unit: Figure['unit'], value: number, target?: Target): Figure => ({
    id: `quality.${name}.${id}`,
    group,
    label: `${label}: ${what}`,
    unit,
    value,
    ...(isDefault && target !== undefined ? { target } : {}),
  })
  return [
    figure('perplexity', 'perplexity ÷ fp32’s', 'share', perplexity, MOST_PERPLEXITY),
    figure('kl', 'mean divergence', 'nats', meanKl, MOST_KL),
    figure('kl-p99', 'divergence, 99th percentile', 'nats', p99Kl),
    figure('top1', 'same most likely token', 'share', top1),
  ]
}
