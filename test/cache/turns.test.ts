import { expect, test } from 'vitest'
import { Turns } from '../../packages/cache/src/turns.ts'

test('whoever waits gets a turn, one in each turn of the event loop, in the order of asking', async () => {
  const turns = new Turns()
  let loopTurn = 0
  const count = (): void => {
    loopTurn += 1
    if (loopTurn < 20) setImmediate(count)
  }
  setImmediate(count)
  const work = async (name: string) => {
    const taken: string[] = []
    for (let slice = 0; slice < 3; slice++) {
      await turns.next()
      taken.push(`${name} in turn ${loopTurn}`)
    }
    return taken
  }
  const taken = (await Promise.all([work('a'), work('b'), work('c')])).flat()
  expect(new Set(taken.map((slice) => slice.slice(2))).size).toBe(9)
  expect(taken.toSorted((x, y) => Number(x.slice(10)) - Number(y.slice(10))).map((slice) => slice[0])).toEqual([...'abcabcabc'])
})
