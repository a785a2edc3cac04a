import type { Grammar } from '@quiver/protocol'
import { ServingError } from '@quiver/protocol'
import { describe, expect, test } from 'vitest'
import type { Constraint } from '../../../packages/worker/src/sampling/constrained.ts'
import { BatchHarness } from '../../support/batch-harness.ts'
import { fakeEosId, fakeVocabSize } from '../../support/fake-engine.ts'

/** Allows these tokens in turn, then the end; counts how often it is opened and closed. */
class CountedConstraints {
  opened = 0
  closed = 0
  readonly accepted: number[][] = []

  open(turns: readonly (readonly number[])[]): Constraint {
    this.opened++
    const accepted: number[] = []
    this.accepted.push(accepted)
    return {
      mask: () => {
        const allowed = turns[accepted.length] ?? [fakeEosId]
        if (allowed.length === 0) throw new ServingError('invalid_parameters', 'no token may come')
        const mask = new Int32Array(fakeVocabSize / 32)
        for (const id of allowed) mask[id >> 5] = (mask[id >> 5] ?? 0) | (1 << (id & 31))
        return mask
      },
      accept: (id) => {
        accepted.push(id)
      },
      close: () => {
        this.closed++
      },
    }
  }
}

const regex = (pattern: string): Grammar => ({ kind: 'regex', pattern })

/** Each pattern is the tokens that it allows: `3,4;5` is one of 3 and 4, then 5. */
function harnessWith(constraints: CountedConstraints): BatchHarness {
  return new BatchHarness({
    neverEnds: true,
    openConstraint: async (grammar) => {
      if (grammar.kind !== 'regex') throw new ServingError('invalid_parameters', 'the grammar cannot be used: it is no list')
      return constraints.open(grammar.pattern.split(';').map((turn) => (turn === '' ? [] : turn.split(',').map(Number))))
    },
  })
}

describe('runs with a grammar', () => {
  test('keep to it, each to its own, beside one that has none', async () => {
    const constraints = new CountedConstraints()
    const harness = harnessWith(constraints)
    const free = harness.run({ inputs: 'same', maxNewTokens: 6 })
    const runs = ['3,4;5;40,41', '7;8,9;10;11'].map((pattern) =>
      harness.run({ inputs: 'same', maxNewTokens: 6, grammar: regex(pattern) }),
    )
    for (const run of runs) expect(await run.end).toMatchObject({ type: 'done', finishReason: 'eos_token' })
    const [first, second] = runs
    expect(first?.tokens).toEqual([expect.toBeOneOf([3, 4]), 5, expect.toBeOneOf([40, 41]), fakeEosId])
    expect(second?.tokens).toEqual([7, expect.toBeOneOf([8, 9]), 10, 11, fakeEosId])
    const alone = new BatchHarness({ neverEnds: true })
    const expected = alone.run({ inputs: 'same', maxNewTokens: 6 })
    await Promise.all([free.end, expected.end])
    expect(free.tokens).toEqual(expected.tokens)
    expect(constraints.closed).toBe(2)
    await Promise.all([harness.loop.close(), alone.loop.close()])
  })

  test('report the log-probabilities of the model', async () => {
    const harness = harnessWith(new CountedConstraints())
    const run = harness.run({ maxNewTokens: 1, grammar: regex('1'), alternatives: 3 })
    await run.end
    const [token] = run.events.filter((event) => event.type === 'token')
    // An allowed token alone would be certain, 0, if it were counted among the allowed ones.
    expect(token?.logprob).toBeLessThan(-0.1)
    expect(token?.alternatives).toHaveLength(3)
    await harness.loop.close()
  })

  test('end with an error where no token may come, and give their grammar back', async () => {
    const constraints = new CountedConstraints()
    const harness = harnessWith(constraints)
    const run = harness.run({ maxNewTokens: 5, grammar: regex('3;') })
    expect(await run.end).toMatchObject({ type: 'error', code: 'invalid_parameters', message: 'no token may come' })
    expect(run.tokens).toEqual([3])
    expect(constraints.closed).toBe(1)
    await harness.loop.close()
  })

  test('give it back when the client leaves, waiting or running, and when the worker stops', async () => {
    const constraints = new CountedConstraints()
    const harness = harnessWith(constraints)
    const endless = regex(Array(200).fill('3').join(';'))
    const leaving = [1, 2, 3].map(() => harness.run({ maxNewTokens: 200, grammar: endless }))
    leaving[0]?.cancel()
    await harness.turns(3)
    leaving[1]?.cancel()
    await leaving[1]?.end
    await harness.loop.close()
    await Promise.all(leaving.map((run) => run.end))
    await harness.turns(3)
    expect(constraints.opened).toBe(3)
    expect(constraints.closed).toBe(3)
  })

  test('are answered why their grammar cannot be used', async () => {
    const harness = harnessWith(new CountedConstraints())
    const run = harness.run({ grammar: { kind: 'json_object' } })
    expect(await run.end).toEqual({
      type: 'error',
      code: 'invalid_parameters',
      message: 'the grammar cannot be used: it is no list',
    })
    await harness.loop.close()
  })
})
