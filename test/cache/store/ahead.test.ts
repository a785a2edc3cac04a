import { expect, test } from 'vitest'
import { ahead } from '../../../packages/cache/src/store/ahead.ts'

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const item of items) found.push(item)
  return found
}

/** Work that a test ends, in the order it likes. */
function heldWork() {
  const held = new Map<number, PromiseWithResolvers<number>>()
  let [most, now] = [0, 0]
  const work = async (item: number): Promise<number> => {
    now += 1
    most = Math.max(most, now)
    const result = Promise.withResolvers<number>()
    held.set(item, result)
    return await result.promise.finally(() => {
      now -= 1
    })
  }
  return { held, work, most: () => most }
}

const turns = () => new Promise(setImmediate)

test('gives results in the order of the items, whichever is ready first, and begins no more than the limit', async () => {
  const { held, work, most } = heldWork()
  const results = all(ahead([0, 1, 2, 3, 4], 3, work))
  await turns()
  expect([...held.keys()]).toEqual([0, 1, 2])
  for (const item of [2, 1, 0]) held.get(item)?.resolve(item * 10)
  await turns()
  expect([...held.keys()]).toEqual([0, 1, 2, 3, 4])
  for (const item of [4, 3]) held.get(item)?.resolve(item * 10)
  expect(await results).toEqual([0, 10, 20, 30, 40])
  expect(most()).toBe(3)
})

test('gives what comes before a failure, then the failure, and the later one is nobody’s', async () => {
  const seen: number[] = []
  const fail = async (item: number) => {
    if (item > 1) throw new Error(`item ${item}`)
    return item
  }
  const read = async () => {
    for await (const item of ahead([0, 1, 2, 3], 4, fail)) seen.push(item)
  }
  await expect(read()).rejects.toThrow('item 2')
  expect(seen).toEqual([0, 1])
})

test('begins nothing more when its reader stops', async () => {
  const begun: number[] = []
  const work = async (item: number) => begun.push(item)
  for await (const _ of ahead([1, 2, 3, 4, 5, 6], 2, work)) break
  expect(begun).toEqual([1, 2])
})
