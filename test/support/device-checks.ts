import type { SequenceId } from '@quiver/protocol'
import type { Engine } from '../../packages/worker/src/engine/engine.ts'
import { goldenCases, sureTokens } from './golden.ts'
import { answerGreedily, type GoldenTurn } from './golden-engine.ts'

/** In the slots 0, 1, … of the engine that is looked at. */
export const checkedAdapters: readonly string[] = ['sentiment', 'shout', 'support-json', 'text-to-sql']

/** The golden case of an adapter, or of the base model, that has the shortest prompt. */
export function shortestTurn(adapter: string | null, mostTokens: number): GoldenTurn {
  const own = goldenCases.filter((golden) => golden.adapter === adapter)
  const golden = own.toSorted((one, other) => one.prompt_ids.length - other.prompt_ids.length)[0]
  if (golden === undefined) throw new Error(`no golden case of ${adapter}`)
  const slot = adapter === null ? undefined : checkedAdapters.indexOf(adapter)
  return { golden, slot, tokens: Math.min(mostTokens, golden.token_ids.length) }
}

/**
 * Answers golden cases of the base model and of four adapters in one batch, up to the first close choice of each.
 * @returns what is wrong, a line for each case; nothing where all is right
 */
export async function wrongAnswers(engine: Engine, mostTokens: number): Promise<string[]> {
  const turns = [null, ...checkedAdapters].map((adapter) => shortestTurn(adapter, mostTokens))
  const answers = await answerGreedily(engine, turns)
  return turns.flatMap(({ golden, tokens }, at) => {
    engine.release(at as SequenceId)
    const sure = Math.min(tokens, sureTokens(golden))
    const [expected, got] = [golden.token_ids, answers[at]?.tokens ?? []].map((ids) => ids.slice(0, sure).join(' '))
    return expected === got ? [] : [`${golden.adapter ?? 'the base model'}: ${got} instead of ${expected}`]
  })
}
