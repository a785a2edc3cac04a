import { adapterInvalid, quoted } from './adapter-problem.ts'

/** A parsed regular expression. `holds` looks at the boundary before character `at`. */
export type PatternNode =
  | { readonly kind: 'character'; readonly accepts: (code: number) => boolean }
  | { readonly kind: 'assertion'; readonly holds: (text: string, at: number) => boolean }
  | { readonly kind: 'sequence'; readonly parts: readonly PatternNode[] }
  | { readonly kind: 'choice'; readonly options: readonly PatternNode[] }
  | { readonly kind: 'repeat'; readonly node: PatternNode; readonly least: number; readonly most: number | undefined }
  | { readonly kind: 'look'; readonly node: PatternNode; readonly negative: boolean }

const MAX_PATTERN_CHARACTERS = 2_048
const MAX_REPEAT = 256
const MAX_GROUP_DEPTH = 32
const NEWLINE = 10

const isDigit = (code: number): boolean => code >= 48 && code <= 57
const isWord = (code: number): boolean =>
  isDigit(code) || (code >= 65 && code <= 90) || (code >= 97 && code <= 122) || code === 95
const isSpace = (code: number): boolean => code === 32 || (code >= 9 && code <= 13)
const classes = new Map<string, (code: number) => boolean>([
  ['d', isDigit],
  ['D', (code) => !isDigit(code)],
  ['w', isWord],
  ['W', (code) => !isWord(code)],
  ['s', isSpace],
  ['S', (code) => !isSpace(code)],
])
const controls = new Map([
  ['n', 10],
  ['r', 13],
  ['t', 9],
  ['f', 12],
  ['v', 11],
])

const atEnd = (text: string, at: number): boolean =>
  at === text.length || (at === text.length - 1 && text.charCodeAt(at) === NEWLINE)
const atWordEdge = (text: string, at: number): boolean =>
  (at > 0 && isWord(text.charCodeAt(at - 1))) !== (at < text.length && isWord(text.charCodeAt(at)))
const assertions = new Map<string, (text: string, at: number) => boolean>([
  ['^', (_, at) => at === 0],
  ['$', atEnd],
  ['\\A', (_, at) => at === 0],
  ['\\Z', (text, at) => at === text.length],
  ['\\b', atWordEdge],
  ['\\B', (text, at) => !atWordEdge(text, at)],
])

/** Parses the subset of Python's syntax that `pattern.ts` describes; ASCII meaning of classes. */
export function parsePattern(source: string, field: string): PatternNode {
  if (source.length > MAX_PATTERN_CHARACTERS) {
    throw adapterInvalid(`the pattern in ${field} has ${source.length} characters, more than ${MAX_PATTERN_CHARACTERS}`)
  }
  return new PatternParser(source, field).parse()
}

class PatternParser {
  readonly #source: string
  readonly #field: string
  #at = 0

  constructor(source: string, field: string) {
    this.#source = source
    this.#field = field
  }

  parse(): PatternNode {
    const node = this.#choice(0)
    if (this.#at < this.#source.length) throw this.#error('has an unmatched ")"')
    return node
  }

  #choice(depth: number): PatternNode {
    if (depth > MAX_GROUP_DEPTH) throw this.#error(`nests groups deeper than ${MAX_GROUP_DEPTH}`)
    const options = [this.#sequence(depth)]
    while (this.#take('|')) options.push(this.#sequence(depth))
    return { kind: 'choice', options }
  }

  #sequence(depth: number): PatternNode {
    const parts: PatternNode[] = []
    for (;;) {
      const next = this.#source[this.#at]
      if (next === undefined || next === '|' || next === ')') return { kind: 'sequence', parts }
      parts.push(this.#repeats(this.#atom(depth)))
    }
  }

  #repeats(node: PatternNode): PatternNode {
    const bounds = this.#bounds()
    if (bounds === undefined) return node
    if (node.kind === 'assertion' || node.kind === 'look') throw this.#error('repeats what has no length')
    this.#take('?')
    if (this.#take('+')) throw this.#error('uses a possessive repeat, which is not supported')
    if (this.#bounds() !== undefined) throw this.#error('repeats a repeat')
    return { kind: 'repeat', node, ...bounds }
  }

  #bounds(): { least: number; most: number | undefined } | undefined {
    if (this.#take('*')) return { least: 0, most: undefined }
    if (this.#take('+')) return { least: 1, most: undefined }
    if (this.#take('?')) return { least: 0, most: 1 }
    const written = /^\{(\d{0,4})(,?)(\d{0,4})\}/.exec(this.#source.slice(this.#at, this.#at + 12))
    if (written === null || (written[1] === '' && written[3] === '')) return undefined
    this.#at += written[0].length
    const least = Number(written[1])
    const most = written[2] === '' ? least : written[3] === '' ? undefined : Number(written[3])
    if (Math.max(least, most ?? 0) > MAX_REPEAT || (most !== undefined && most < least))
      throw this.#error('has a repeat out of range')
    return { least, most }
  }

  #atom(depth: number): PatternNode {
    const next = this.#source[this.#at] ?? ''
    this.#at += 1
    const assertion = assertions.get(next)
    if (assertion !== undefined) return { kind: 'assertion', holds: assertion }
    if (next === '(') return this.#group(depth)
    if (next === '[') return { kind: 'character', accepts: this.#set() }
    if (next === '.') return { kind: 'character', accepts: (code) => code !== NEWLINE }
    if (next === '\\') return this.#escape()
    if (next === '*' || next === '+' || next === '?') throw this.#error('repeats nothing')
    return literal(next.charCodeAt(0))
  }

  #group(depth: number): PatternNode {
    const look = this.#take('?=') ? { negative: false } : this.#take('?!') ? { negative: true } : undefined
    if (look === undefined && this.#source[this.#at] === '?') {
      const opening = /^\?(?::|P<[A-Za-z_]\w*>)/.exec(this.#source.slice(this.#at, this.#at + 64))
      if (opening === null) throw this.#error('uses lookbehind, a flag or another special group, which is not supported')
      this.#at += opening[0].length
    }
    const node = this.#choice(depth + 1)
    if (!this.#take(')')) throw this.#error('has an unmatched "("')
    return look === undefined ? node : { kind: 'look', node, ...look }
  }

  #escape(): PatternNode {
    const letter = this.#source[this.#at] ?? ''
    const assertion = assertions.get(`\\${letter}`)
    if (assertion !== undefined) {
      this.#at += 1
      return { kind: 'assertion', holds: assertion }
    }
    return { kind: 'character', accepts: this.#escapedClass() }
  }

  /** What follows a backslash and stands for one character, in or outside of a set. */
  #escapedClass(): (code: number) => boolean {
    const letter = this.#source[this.#at] ?? ''
    this.#at += 1
    const known = classes.get(letter)
    if (known !== undefined) return known
    const code = controls.get(letter) ?? (/[^A-Za-z0-9]/.test(letter) ? letter.charCodeAt(0) : undefined)
    if (code === undefined) throw this.#error(`uses \\${letter}, which is not supported`)
    return (other) => other === code
  }

  #set(): (code: number) => boolean {
    const negative = this.#take('^')
    const parts: ((code: number) => boolean)[] = []
    for (let first = true; first || this.#source[this.#at] !== ']'; first = false) {
      const from = this.#source[this.#at]
      if (from === undefined) throw this.#error('has an unmatched "["')
      this.#at += 1
      if (from === '\\') {
        parts.push(this.#escapedClass())
        if (this.#source[this.#at] === '-' && this.#source[this.#at + 1] !== ']') throw this.#error('has a range from an escape')
        continue
      }
      const low = from.charCodeAt(0)
      const high = this.#rangeEnd() ?? low
      if (high < low) throw this.#error('has a range that runs backwards')
      parts.push((code) => code >= low && code <= high)
    }
    this.#at += 1
    return (code) => parts.some((part) => part(code)) !== negative
  }

  #rangeEnd(): number | undefined {
    const end = this.#source[this.#at + 1]
    if (this.#source[this.#at] !== '-' || end === undefined || end === ']') return undefined
    if (end === '\\') throw this.#error('has a range to an escape')
    this.#at += 2
    return end.charCodeAt(0)
  }

  #take(text: string): boolean {
    if (!this.#source.startsWith(text, this.#at)) return false
    this.#at += text.length
    return true
  }

  #error(reason: string) {
    return adapterInvalid(`the pattern ${quoted(this.#source)} in ${this.#field} ${reason}`)
  }
}

function literal(code: number): PatternNode {
  return { kind: 'character', accepts: (other) => other === code }
}
