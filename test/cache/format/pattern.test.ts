import { describe, expect, it } from 'vitest'
import { compilePattern, MatchBudget } from '../../../packages/cache/src/format/pattern.ts'
import { refusal } from '../../support/refusal.ts'

const matches = (pattern: string, text: string): boolean =>
  compilePattern(pattern, 'target_modules').matches(text, new MatchBudget())

describe('a pattern', () => {
  it.each([
    ['', '', true],
    ['', 'a', false],
    ['a|bc|', 'bc', true],
    ['a|bc|', '', true],
    ['a|bc', 'b', false],
    ['a{2,3}', 'aaa', true],
    ['a{2,3}', 'aaaa', false],
    ['a{2}', 'aa', true],
    ['a{,2}b', 'aab', true],
    ['a{2,}?', 'aaaaa', true],
    ['a{x}', 'a{x}', true],
    ['(?:ab)*c', 'ababc', true],
    ['(?P<n>ab)+', 'abab', true],
    ['[a-c_]+', 'ab_c', true],
    ['[^a-c]+', 'xyz', true],
    ['[^a-c]+', 'xbz', false],
    ['[]a]+', ']a', true],
    ['[a-]+', 'a-', true],
    ['[\\d.]+', '3.14', true],
    ['\\w+\\s\\W', 'ab !', true],
    ['.', '\n', false],
    ['a\\.b', 'axb', false],
    ['\\bab\\b.*', 'ab.c', true],
    ['a\\Bb', 'ab', true],
    ['^a$', 'a', true],
    ['(?!b).*', 'ab', true],
    ['(?!a).*', 'ab', false],
    ['(?=.*z)a.*', 'ayz', true],
    ['(?:(?!bad).)*', 'xxbadxx', false],
    ['((a*)*)*b', 'aaab', true],
  ])('%j against %j is %s, as in Python', (pattern, text, expected) => {
    expect(matches(pattern, text)).toBe(expected)
  })

  it('C07 that makes backtracking matchers hang is answered at once', () => {
    const text = `${'a'.repeat(200)}!`
    const startedAt = performance.now()
    for (const pattern of ['(a+)+b', '(a|a)*b', '(a|aa)+b', '(.*a){12}b', '(?:a?){100}a{100}b'])
      expect(matches(pattern, text)).toBe(false)
    expect(performance.now() - startedAt).toBeLessThan(1_000)
  })

  it.each([
    ['(a)\\1', /uses \\1/],
    ['(?<=a)b', /lookbehind/],
    ['(?i)a', /flag/],
    ['a*+', /possessive/],
    ['a**', /repeats a repeat/],
    ['*a', /repeats nothing/],
    ['(a', /unmatched "\("/],
    ['a)', /unmatched "\)"/],
    ['[a', /unmatched "\["/],
    ['[z-a]', /backwards/],
    ['a{300}', /repeat out of range/],
    ['((a{99}){99}){99}', /too big/],
    ['(((((){99}){99}){99}){99}){99}', /too big/],
    ['a'.repeat(3_000), /3000 characters/],
    ['('.repeat(50) + ')'.repeat(50), /deeper/],
    ['\\p', /uses \\p/],
    ['^*', /no length/],
  ])('%j is refused with the field named', async (pattern, message) => {
    const error = await refusal(() => compilePattern(pattern, 'target_modules'))
    expect(error.code).toBe('adapter_invalid')
    expect(error.message).toMatch(message)
    expect(error.message).toContain('target_modules')
  })

  it('stops when all matches of one adapter together take too many steps', async () => {
    const budget = new MatchBudget(1_000)
    const pattern = compilePattern('(?:.*a){10}', 'rank_pattern')
    const error = await refusal(() => pattern.matches('a'.repeat(500), budget))
    expect(error.message).toMatch(/take too long/)
  })
})
