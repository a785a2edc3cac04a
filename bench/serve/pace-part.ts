/** Streams while long prompts arrive: how even their tokens come. */
import type { BenchContext } from '../bench.ts'
import { type Figure, measured } from '../shared/figure.ts'
import { quantile, summarise } from '../shared/statistics.ts'
import type { Answered, Ask } from './contestant.ts'
import { closedLoop } from './load.ts'
import { startUnderLoad } from './quiver-under-load.ts'

const STREAMS = 8
/** A long prompt is so many pieces of so many tokens: one piece of all of them would take long to find. */
const PIECES = 10
const PIECE_TOKENS = 100
const PROMPT_TOKENS = PIECES * PIECE_TOKENS
/** More than are asked for: a second time they would not have to be computed. */
const LONG_PROMPTS = 100
/** No step is as short, and writing what one has given takes less. */
const TOGETHER_MS = 1

export async function measurePace(context: BenchContext): Promise<Figure[]> {
  const { quick, progress } = context
  const { process, prompts, client } = await startUnderLoad(context, STREAMS)
  const server = client()
  const asks = (count: number): Ask[] =>
    Array.from({ length: count }, (_, index) => ({ ...prompts.next(64), newTokens: 128, adapter: index % STREAMS }))
  // Before anything is measured: finding prompts keeps this process from reading what comes.
  const longAsks = Array.from({ length: LONG_PROMPTS }, (): Ask => {
    const pieces = Array.from({ length: PIECES }, () => prompts.next(PIECE_TOKENS))
    const prompt = pieces.map((piece) => piece.prompt).join(' ')
    return { prompt, promptIds: pieces.flatMap(({ promptIds }) => promptIds), newTokens: 1, adapter: 0 }
  })
  const streams = asks(quick ? STREAMS : 6 * STREAMS)
  const streamsBeside = asks(streams.length)
  progress('warming up')
  await closedLoop(server, asks(STREAMS), STREAMS)
  progress(`${STREAMS} streams`)
  const alone = gapsOf((await closedLoop(server, streams, STREAMS)).answers)
  progress(`${STREAMS} streams while prompts of ${PROMPT_TOKENS} tokens arrive`)
  let isOver = false
  const longPrompts = (async () => {
    for (const ask of longAsks) if (!isOver) await server.stream(ask)
  })()
  const beside = gapsOf((await closedLoop(server, streamsBeside, STREAMS)).answers)
  isOver = true
  await longPrompts
  await process.stop()
  const group = `${STREAMS} streams of different adapters: from one token to the next`
  const p99 = quantile(beside, 0.99)
  return [
    measured({ id: 'serve.pace.alone', group, label: 'alone', unit: 'ms' }, summarise(alone)),
    { id: 'serve.pace.alone-p99', group, label: 'alone, p99', unit: 'ms', value: quantile(alone, 0.99) },
    measured(
      { id: 'serve.pace.beside', group, label: `one prompt of ${PROMPT_TOKENS} tokens after the other`, unit: 'ms' },
      summarise(beside),
    ),
    { id: 'serve.pace.beside-p99', group, label: 'the same, p99', unit: 'ms', value: p99 },
    {
      id: 'serve.pace.ratio',
      group,
      label: 'the same, p99 ÷ median',
      unit: 'x',
      value: p99 / quantile(beside, 0.5),
      target: { at: 'most', value: 2 },
    },
  ]
}

/** Milliseconds between tokens of the same answer; those of one step, which guesses add to, come together. */
function gapsOf(answers: readonly Answered[]): number[] {
  return answers
    .flatMap(({ arrivalsMs = [] }) => arrivalsMs.slice(1).map((atMs, i) => atMs - (arrivalsMs[i] ?? atMs)))
    .filter((gap) => gap > TOGETHER_MS)
}
