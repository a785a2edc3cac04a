/** The real lorax-client of PyPI against a running server. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { goldenCases } from '../support/golden.ts'
import { pythonWith } from '../support/python-venv.ts'
import { type QuiverServer, startQuiver } from '../support/quiver-server.ts'

const cases = ['text-to-sql', 'support-json', 'sentiment', 'shout'].flatMap(
  (name) => goldenCases.find(({ adapter }) => adapter === name) ?? [],
)
const [sql] = cases

let server: QuiverServer
let results: Record<string, unknown>
beforeAll(async () => {
  const python = await pythonWith('test/conformance/requirements.txt')
  server = await startQuiver()
  const script = join(import.meta.dirname, 'lorax-client.py')
  const { stdout } = await promisify(execFile)(python, [script, server.url, JSON.stringify(cases)], { timeout: 240_000 })
  results = JSON.parse(stdout)
})
afterAll(() => server?.stop())

test('a plain request has the text that PEFT gives', () => {
  expect(results['plain']).toBe(sql?.text)
  expect(results['base']).not.toBe(sql?.text)
})

test('details have what the client requires', () => {
  expect(results['details']).toEqual({
    finish_reason: 'length',
    prompt_ids: sql?.prompt_ids,
    token_ids: sql?.token_ids,
    seed: null,
    generated_tokens: sql?.token_ids.length,
    alternatives: sql?.token_ids.map(() => 2),
    special: sql?.token_ids.map((id) => id === 2),
  })
})

test('a stream gives token after token, the text with the last', () => {
  expect(results['stream']).toEqual({
    token_ids: sql?.token_ids,
    text: sql?.text,
    generated_text: [...Array((sql?.token_ids.length ?? 1) - 1).fill(null), sql?.text],
    finish_reason: 'length',
  })
})

test('a seed of 64 bits and a drawn one replay', () => {
  expect(results['seed']).toEqual({
    reported: '18446744073709551615',
    replays: true,
    drawn_replays: true,
    drawn_is_small: true,
  })
})

test('a stop sequence ends the text and stays in it; the full text begins with the prompt', () => {
  expect(results['stop']).toEqual({ text: ' 5, 6, 7', finish_reason: 'stop_sequence' })
  expect(results['full_text']).toMatch(/^1, 2, 3, 4, 5/)
})

test('an answer has the form of the schema that the client sends', () => {
  expect(results['schema']).toEqual({
    answer: { category: expect.stringMatching(/^(billing|technical)$/), urgent: expect.any(Boolean) },
    finish_reason: 'eos_token',
  })
})

test('four adapters at once give each its own text', () => {
  expect(results['four_at_once']).toEqual(cases.map(({ text }) => text))
})

test('merged adapters of unequal ranks answer as PEFT does, and the same each time', () => {
  const [json, shout] = ['support-json', 'shout'].map((name) => cases.find(({ adapter }) => adapter === name)?.text)
  expect(results['merged']).toEqual({
    first_alone: json,
    second_alone: shout,
    stream: json,
    ties_with_itself: shout,
    replays: true,
  })
})

test('a merge that cannot be made raises what the client knows', () => {
  expect(results['merged_unknown']).toEqual({
    raised: 'GenerationError',
    text: expect.stringContaining("'nobody/nothing' is not known here"),
  })
  expect(results['merged_without_density']).toEqual({
    raised: 'ValidationError',
    text: expect.stringMatching(/^Input validation error: `density` must be > 0.0 with `merge_strategy` ties/),
  })
})

test('an unknown adapter raises GenerationError, also in a stream', () => {
  const expected = { raised: 'GenerationError', text: expect.stringContaining("'nobody/nothing' is not known here") }
  expect([results['unknown_adapter'], results['unknown_adapter_stream']]).toEqual([expected, expected])
})

test('a bad parameter raises ValidationError, also in a stream', () => {
  const expected = { raised: 'ValidationError', text: 'Input validation error: `max_new_tokens` must be strictly positive' }
  expect([results['bad_parameter'], results['bad_parameter_stream']]).toEqual([expected, expected])
  expect(results['too_long']).toMatchObject({ raised: 'ValidationError', text: expect.stringContaining('must be <= 2048') })
})
