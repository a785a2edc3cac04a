import { expect, test } from 'vitest'
import { isLoopback } from '../../packages/cli/src/loopback.ts'

test.each(['localhost', '127.0.0.1', '127.9.9.9', '::1'])('%s is loopback', (host) => {
  expect(isLoopback(host)).toBe(true)
})

// A name that begins like an address once let a worker without a secret listen to everyone.
test.each(['127.example', '127.0.0.1.example.org', '127.', '0.0.0.0', '10.0.0.1', '::', ''])('%j is not', (host) => {
  expect(isLoopback(host)).toBe(false)
})
