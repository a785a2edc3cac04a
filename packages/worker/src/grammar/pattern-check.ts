import { refusal } from './compile-thread.ts'

/** Repetitions are unrolled by the compiler, one within the other multiplied. */
const MOST_REPETITIONS = 20_000

/** One element of a regular expression: an escape, a class, a bracket, a quantifier in braces, or a character. */
const ELEMENT = /\\(?:[xu][0-9a-fA-F]{2,4}|.)|\[\^?(?:\\.|[^\]\\])*\]|\(\?[:=!<]?|\{(\d+)(,(\d*))?\}|./gs

/**
 * Escapes, among them those that the compiler (0.1.27) reads as another character than JavaScript, by which quotes are looked for:
 * `\u{22}` is a quote there and 22 times a u here, `\x22ab` one character there and three here.
 */
const ESCAPE = /\\(?:c|u\{|x[0-9a-fA-F]{3}|.)/gs

/**
 * @throws ServingError `invalid_parameters` for what is no regular expression, for anchors in the middle, which the compiler would
 * leave out, and for repetitions that would be unrolled beyond measure
 */
export function requirePattern(pattern: string): void {
  try {
    new RegExp(pattern)
  } catch (cause) {
    throw refusal(cause instanceof SyntaxError ? cause.message.slice(0, 300) : 'it is no regular expression')
  }
  const elements = elementsOf(pattern)
  for (const [at, { text }] of elements.entries()) {
    const isMisplaced = (text === '^' && at > 0) || (text === '$' && at < elements.length - 1)
    if (isMisplaced) throw refusal(`\`${text}\` is supported only where the whole pattern begins or ends`)
  }
  const unclear = Array.from(pattern.matchAll(ESCAPE), ([found]) => found).find((found) => found === '\\c' || found.length > 2)
  if (unclear !== undefined) throw refusal(`\`${unclear}\` is not supported: write the character as \\u and four digits`)
  requireModestRepetition(elements)
}

interface Element {
  readonly text: string
  /** Of a quantifier in braces. */
  readonly most?: number
}

function elementsOf(pattern: string): readonly Element[] {
  return Array.from(pattern.matchAll(ELEMENT), ([text, least, range, most]) =>
    least === undefined ? { text } : { text, most: Number(range === undefined || most === '' ? least : most) },
  )
}

/** Sums the sizes of elements within each group, and multiplies by what repeats them. */
function requireModestRepetition(elements: readonly Element[]): void {
  const sums: number[] = [0]
  let last = 0
  for (const { text, most } of elements) {
    if (most !== undefined) last = repeat(sums, last, most)
    else if (text.startsWith('(')) {
      sums.push(0)
      last = 0
    } else if (text === ')') {
      last = sums.pop() ?? 0
      add(sums, last)
    } else if (!/^[*+?|^$]$/.test(text)) {
      last = 1
      add(sums, 1)
    }
    if ((sums.at(-1) ?? 0) > MOST_REPETITIONS) {
      throw refusal(`its repetitions come to more than ${MOST_REPETITIONS} characters: use smaller bounds or \`*\``)
    }
  }
}

function repeat(sums: number[], last: number, most: number): number {
  const times = Math.max(1, most)
  add(sums, last * (times - 1))
  return last * times
}

function add(sums: number[], amount: number): void {
  sums.push((sums.pop() ?? 0) + amount)
}

/** Escapes whose characters JSON text may not have as they are, and what is left of them without those. */
const escapesInJson: Readonly<Record<string, string>> = {
  '\\S': '[^\\s"\\\\\\x00-\\x1f]',
  '\\W': '[^\\w"\\\\\\x00-\\x1f]',
  '\\D': '[^\\d"\\\\\\x00-\\x1f]',
  '\\s': ' ',
}

/**
 * The compiler puts a schema's `pattern` between the quotes of a JSON string as it stands. So nothing in it may match a quote, a
 * backslash or a control character.
 * @returns the pattern without those
 * @throws ServingError `invalid_parameters` where it asks for one of them
 */
export function patternWithinJson(pattern: string): string {
  requirePattern(pattern)
  return elementsOf(pattern)
    .map(({ text }) => {
      if (text === '.') return '[^"\\\\\\x00-\\x1f]'
      if (text.startsWith('[^')) return `[^"\\\\\\x00-\\x1f${text.slice(2)}`
      const replaced = escapesInJson[text]
      if (replaced !== undefined) return replaced
      if (couldBreakJson(text))
        throw refusal(`a schema's pattern may not ask for quotes, backslashes or control characters: ${text}`)
      return text
    })
    .join('')
}

function couldBreakJson(text: string): boolean {
  if (text.length > 1 && !text.startsWith('[') && !text.startsWith('\\')) return false
  const one = new RegExp(/^[()*+?|^$]$/.test(text) ? `\\${text}` : text)
  return (
    one.test('"') ||
    one.test('\\') ||
    Array.from({ length: 0x20 }, (_, code) => String.fromCharCode(code)).some((c) => one.test(c))
  )
}
