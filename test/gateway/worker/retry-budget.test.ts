import { expect, test } from 'vitest'
import { RetryBudget } from '../../../packages/gateway/src/worker/retry-budget.ts'

test('G08 when everything fails, retries are at most a fifth of the requests, however many come', () => {
  const budget = new RetryBudget()
  let retries = 0
  for (let request = 0; request < 10_000; request++) {
    budget.deposit()
    if (budget.take()) retries += 1
  }
  expect(retries / 10_000).toBeLessThan(0.2)
  expect(retries / 10_000).toBeGreaterThan(0.1)
})

test('the first requests are retried, and a quiet time saves up no flood', () => {
  const first = new RetryBudget()
  first.deposit()
  expect(first.take()).toBe(true)
  const saved = new RetryBudget()
  for (let request = 0; request < 100_000; request++) saved.deposit()
  let retries = 0
  while (saved.take()) retries += 1
  expect(retries).toBe(100)
})
