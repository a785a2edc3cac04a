import { expect, test } from 'vitest'
import { parseCommand } from '../../bench/arguments.ts'

const parts = new Map([['engine', ['decode', 'load']]])
const run = { kind: 'run', bench: 'engine', model: undefined, dtype: undefined, seed: 1, quick: false, only: [], keep: false }

test.each([
  { args: ['engine'], expected: run },
  { args: ['engine', '--quick', '--seed', '9', '--dtype', 'fp32'], expected: { ...run, quick: true, seed: 9, dtype: 'fp32' } },
  { args: ['--model', './x', 'engine', '--only', 'load,decode'], expected: { ...run, model: './x', only: ['load', 'decode'] } },
  { args: ['engine', '--keep'], expected: { ...run, keep: true } },
  { args: ['report'], expected: { kind: 'report' } },
  { args: [], expected: { kind: 'help' } },
  { args: ['engine', '--help'], expected: { kind: 'help' } },
])('understands $args', ({ args, expected }) => {
  expect(parseCommand(args, parts)).toEqual(expected)
})

test.each([
  { args: ['gateway'], message: 'there is no bench "gateway": use engine, report' },
  { args: ['engine', 'report'], message: 'one bench at a time' },
  { args: ['engine', '--only', 'serve'], message: 'has no part "serve": use decode, load' },
  { args: ['engine', '--seed', 'x'], message: '--seed is "x"' },
  { args: ['engine', '--keep', '--only', 'load'], message: '--keep needs a whole run' },
  { args: ['engine', '--fast'], message: "Unknown option '--fast'" },
])('refuses $args', ({ args, message }) => {
  expect(() => parseCommand(args, parts)).toThrow(message)
})
