import type { SequenceId } from '@quiver/protocol'
import { describe, expect, test } from 'vitest'
import { type CacheType, FlatCache } from '../../../../packages/worker/src/engine/onnx/flat-cache.ts'
import { sequencesOf } from '../../../../packages/worker/src/engine/onnx/step-sequences.ts'
import type { ModelSpec } from '../../../../packages/worker/src/model/model-spec.ts'
import { stepRows } from '../../../support/engine-under-test.ts'
import { tinyModel } from '../../../support/tiny-models.ts'

const { spec, weights } = await tinyModel('qwen2-bf16').open()
await weights.close()

const id = (number: number) => number as SequenceId
const cacheOf = (cacheType: CacheType, totalTokens = 40, of: ModelSpec = spec) =>
  new FlatCache(of, { sequences: 3, totalTokens, cacheType })

/** Computes tokens of sequences as the engine does, and answers what attention is told: its row of the cache for each row. */
function step(cache: FlatCache, ...sequences: readonly (readonly [number, number])[]): { rows: number[]; positions: number[] } {
  const rows = sequences.flatMap(([own, count]) => stepRows({ id: own, tokens: new Array(count).fill(1) }, cache.length(id(own))))
  const [run, ...others] = cache.runs(sequencesOf({ rows, wanted: [] }))
  expect(others).toEqual([])
  for (const [own, count] of sequences) cache.setLength(id(own), cache.length(id(own)) + count)
  const values = (name: string) => Array.from(run?.inputs.find((input) => input.name === name)?.data as Int32Array)
  return { rows: values('cache_row'), positions: values('position') }
}

test('a step of prompts and single tokens is one run, and a sequence keeps its row while others come and go', () => {
  const cache = cacheOf('f16')
  expect(step(cache, [7, 3], [8, 2])).toEqual({ rows: [0, 0, 0, 1, 1], positions: [0, 1, 2, 0, 1] })
  expect(step(cache, [8, 1], [9, 2], [7, 1])).toEqual({ rows: [1, 2, 2, 0], positions: [2, 0, 1, 3] })
  cache.release(id(7))
  expect(step(cache, [9, 1], [8, 1])).toEqual({ rows: [2, 1], positions: [2, 3] })
})

test('the row that was left last is taken first, since its pages are there', () => {
  const cache = cacheOf('f16')
  step(cache, [1, 1], [2, 1], [3, 1])
  cache.release(id(1))
  cache.release(id(3))
  expect(step(cache, [4, 1]).rows).toEqual([2])
  expect(step(cache, [5, 1]).rows).toEqual([0])
  expect(() => step(cache, [6, 1])).toThrow('more sequences than the engine has rows for')
})

test('a step of nothing is no run', () => {
  expect(cacheOf('f32').runs([])).toEqual([])
})

describe.each(['f32', 'f16'] as const)('copies of keys and values of %s', (cacheType) => {
  const size = cacheType === 'f32' ? 4 : 2
  const filled = (): FlatCache => {
    const cache = cacheOf(cacheType)
    const [run] = cache.runs(
      sequencesOf({ rows: [...stepRows({ id: 0, tokens: [1] }), ...stepRows({ id: 1, tokens: [1] })], wanted: [] }),
    )
    for (const { data } of run?.cache.tensors ?? []) {
      const bytes = data as Float32Array | Uint16Array
      for (let i = 0; i < bytes.length; i += 1) bytes[i] = (i * 7919) % 60013
    }
    cache.setLength(id(0), 40)
    return cache
  }
  const copyOf = (cache: FlatCache, of: number, from: number, count: number) => {
    const copy = new Uint8Array(count * cache.tokenBytes)
    cache.copyOut(id(of), from, count, copy)
    return copy
  }

  test('a token takes the bytes of its keys and values in all layers', () => {
    expect(cacheOf(cacheType).tokenBytes).toBe(2 * spec.layerCount * spec.kvHeadCount * spec.headDim * size)
  })

  test.each([
    ['whole groups of keys', [16, 16, 8]],
    ['pieces that begin and end within groups', [3, 14, 1, 22]],
    ['all at once', [40]],
  ])('are put back to the byte, from %s', (_title, counts) => {
    const cache = filled()
    let from = 0
    for (const count of counts) {
      cache.copyIn(id(1), from, count, copyOf(cache, 0, from, count))
      from += count
    }
    expect(copyOf(cache, 1, 0, 40)).toEqual(copyOf(cache, 0, 0, 40))
    expect(copyOf(cache, 1, 5, 13)).toEqual(copyOf(cache, 0, 5, 13))
  })

  test('are the same wherever in a sequence the tokens stand', () => {
    const cache = filled()
    const copy = copyOf(cache, 0, 16, 16)
    cache.copyIn(id(1), 0, 5, copyOf(cache, 0, 0, 5))
    cache.copyIn(id(1), 5, 16, copy)
    expect(copyOf(cache, 1, 5, 16)).toEqual(copy)
  })
})
