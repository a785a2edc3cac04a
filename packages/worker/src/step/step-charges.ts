/** What a step costs those whose rows are in it. */
import type { SequenceId } from '@quiver/protocol'
import { type Charge, flowOf } from './service-ledger.ts'
import type { RunningView, SequenceRows, WaitingView } from './step-plan.ts'

/** A token of an answer costs two of a prompt: it takes a step of its own. So it is in VTC. */
const ANSWER_TOKENS = 2

/**
 * Virtual tokens of the rows of a step: 1 for a row of a prompt, 2 for the next token of an answer, and 1 for each row of a guess beside
 * it, which is computed as a prompt is. What was copied from the prefix cache has no rows and costs nothing.
 */
export function chargesOf(work: readonly SequenceRows[], sequences: readonly (RunningView | WaitingView)[]): Charge[] {
  const owners = new Map<SequenceId, RunningView | WaitingView | undefined>(work.map(({ sequence }) => [sequence, undefined]))
  for (const one of sequences) if (owners.has(one.sequence)) owners.set(one.sequence, one)
  const charges = new Map<string, { tenant: string; flow: string; tokens: number }>()
  for (const { sequence, phase, rowCount } of work) {
    const owner = owners.get(sequence)
    if (owner === undefined) continue
    const { tenant } = owner.client
    const flow = flowOf(owner.adapter)
    const key = `${flow} ${tenant}`
    const charge = charges.get(key) ?? { tenant, flow, tokens: 0 }
    charge.tokens += phase === 'prefill' ? rowCount : ANSWER_TOKENS + rowCount - 1
    charges.set(key, charge)
  }
  return [...charges.values()]
}
