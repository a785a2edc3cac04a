import { describe, expect, test } from 'vitest'
import { hashText, rendezvousWeight } from '../../../packages/gateway/src/placement/rendezvous.ts'

const workers = Array.from({ length: 8 }, (_, index) => `worker-${index}`)
const first = (key: string, among: readonly string[]) =>
  among.reduce((best, worker) =>
    rendezvousWeight(hashText(key), hashText(worker)) > rendezvousWeight(hashText(key), hashText(best)) ? worker : best,
  )
const keys = Array.from({ length: 8_000 }, (_, index) => `tenant/adapter-${index}`)

describe('rendezvous order', () => {
  test('spreads similar names evenly over similar workers', () => {
    const counts = workers.map((worker) => keys.filter((key) => first(key, workers) === worker).length)
    // 1,000 each, standard deviation 30.
    for (const count of counts) expect(Math.abs(count - 1_000)).toBeLessThan(150)
  })

  test('moves only the keys of a worker that leaves', () => {
    const left = workers.slice(0, -1)
    const moved = keys.filter((key) => first(key, workers) !== first(key, left))
    expect(moved.every((key) => first(key, workers) === 'worker-7')).toBe(true)
    expect(moved.length).toBeGreaterThan(0)
  })

  test('is the same in every process: these weights are part of the contract between gateways', () => {
    expect([hashText(''), hashText('a')]).toEqual([0x811c9dc5, 0xe40c292c])
    expect(rendezvousWeight(hashText('acme/sql'), hashText('worker-0'))).toMatchInlineSnapshot(`1668880822`)
  })
})
