/** The table of faults tells the truth: what it names is there and is about that case. */
import { describe, expect, test } from 'vitest'
import { isProjectPath, readProjectText, tableRows } from '../support/repository.ts'

const text = readProjectText('docs/faults.md')
const rows = tableRows(text, 'id', 'case', 'shown by')

/** How many cases each group has, as the project's list of faults numbers them. */
const groups = { H: 21, S: 19, C: 10, O: 17, D: 10, W: 18, G: 14, K: 3, R: 11 } as const

test.each(Object.entries(groups))('group %s has a row for each of its %i cases', (letter, count) => {
  const ids = rows.map(([id = '']) => id).filter((id) => id.startsWith(letter))
  expect(ids).toEqual(Array.from({ length: count }, (_, at) => `${letter}${String(at + 1).padStart(2, '0')}`))
})

test('no case has two rows, and none is unknown', () => {
  const ids = rows.map(([id]) => id)
  expect(new Set(ids).size).toBe(ids.length)
  for (const id of ids) expect(id).toMatch(/^[HTSCODWGKLR]\d\d$/)
})

describe.each(rows.map(([id = '', what = '', shown = '']) => ({ id, what, shown })))('$id $what', ({ id, shown }) => {
  const named = Array.from(shown.matchAll(/`(test\/[\w./-]+)`(?: "([^"]+)")?/g), ([, file = '', words]) => ({ file, words }))

  test('is shown by the files named, or says why not', () => {
    if (named.length === 0) expect(shown).toMatch(/^None yet: \S/)
    else expect(shown).toMatch(/^`test\//)
    for (const { file, words } of named) {
      expect(isProjectPath(file), file).toBe(true)
      const source = readProjectText(file)
      if (words === undefined) expect(new RegExp(`\\b${id}\\b`).test(source), `${file} has ${id}`).toBe(true)
      else expect(source.includes(words), `${file} has "${words}"`).toBe(true)
    }
  })
})
