/** The table of what clients may rely on is whole: no promise without a check, and enough of them. */
import { describe, expect, test } from 'vitest'
import { clientOf, readContract } from '../conformance/contract.ts'
import { isProjectPath, readProjectText } from '../support/repository.ts'

const rows = readContract()
const clients = ['lorax', 'hub', 'openai-py', 'openai-ts', 'curl', 'configured']
const checks = rows.flatMap((row) => row.checks)
const isFile = (check: string) => check.startsWith('test/')

test('has a section for each part of the contract', () => {
  const numbers = new Set(rows.map(({ section }) => section.split(' ')[0]))
  const parts = ['1.1', '1.2', '1.3', '1.4', '1.5', '1.6', '1.7', '1.8', '2.1', '2.2', '2.3', '2.4', '3', '4', '5']
  expect([...numbers]).toEqual(parts)
})

test('has no promise without a check, and no check twice', () => {
  expect(rows.filter((row) => row.checks.length === 0)).toEqual([])
  expect(checks.filter((check, at) => checks.indexOf(check) !== at)).toEqual([])
})

test('has at least 150 checks by every client that there is', () => {
  const byClient = Object.groupBy(
    checks.filter((check) => !isFile(check)),
    clientOf,
  )
  expect(Object.keys(byClient).toSorted()).toEqual(clients.toSorted())
  expect(Object.values(byClient).flat().length).toBeGreaterThanOrEqual(150)
})

describe.each(checks.filter(isFile))('%s', (check) => {
  test('is a test of those words', () => {
    const [, file = '', words = ''] = /^(test\/\S+) "(.+)"$/.exec(check) ?? []
    expect(isProjectPath(file), file).toBe(true)
    expect(readProjectText(file)).toContain(words)
  })
})
