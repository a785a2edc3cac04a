import { expect, test } from 'vitest'
import { Turns } from '../../../packages/worker/src/grammar/turns.ts'

test('many share at once', async () => {
  const turns = new Turns()
  await Promise.all([turns.share(), turns.share()])
  expect(turns.load).toBe(2)
})

test('one alone waits for those who share, and those who come after wait for it', async () => {
  const turns = new Turns()
  const order: string[] = []
  const giveBack = await turns.share()
  const alone = turns.alone().then((back) => {
    order.push('alone')
    return back
  })
  const after = turns.share().then(() => order.push('after'))
  await new Promise(setImmediate)
  expect(order).toEqual([])
  giveBack()
  const backAlone = await alone
  await new Promise(setImmediate)
  expect(order).toEqual(['alone'])
  backAlone()
  await after
  expect(order).toEqual(['alone', 'after'])
})
