/**
 * A strict reader of JSON (RFC 8259) for files that come from strangers. JSON.parse is not enough for them: it keeps the
 * last of two equal keys without a word, rounds integers above 2^53, and makes `__proto__` a key like any other on an
 * object that has a prototype. Here a repeated key is refused, objects are Maps in file order, and a number keeps its text.
 */
import { adapterInvalid, quoted } from './adapter-problem.ts'

/** A number with the digits as written, since `1.0`, `1e2` and 2^53+1 are not integers to a strict reader. */
export interface JsonNumber {
  readonly text: string
  readonly value: number
}
export type JsonObject = ReadonlyMap<string, JsonValue>
export type JsonValue = null | boolean | string | JsonNumber | readonly JsonValue[] | JsonObject

const MAX_DEPTH = 32
// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON strings must not hold raw control characters.
const PLAIN_TEXT = /[^"\\\u0000-\u001f]*/y
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y
const WORD = /[A-Za-z+-][A-Za-z0-9]*/y
const INTEGER = /^(?:0|[1-9][0-9]{0,15})$/
const escapes = new Map([
  ['"', '"'],
  ['\\', '\\'],
  ['/', '/'],
  ['b', '\b'],
  ['f', '\f'],
  ['n', '\n'],
  ['r', '\r'],
  ['t', '\t'],
])

export function isJsonObject(value: JsonValue | undefined): value is JsonObject {
  return value instanceof Map
}

export function isJsonArray(value: JsonValue | undefined): value is readonly JsonValue[] {
  return Array.isArray(value)
}

export function isJsonNumber(value: JsonValue | undefined): value is JsonNumber {
  return typeof value === 'object' && value !== null && !isJsonArray(value) && !isJsonObject(value)
}

/** The value of a plain non-negative integer below 2^53: no sign, fraction, exponent or leading zero. */
export function integerOf(value: JsonValue | undefined): number | undefined {
  if (!isJsonNumber(value) || !INTEGER.test(value.text) || !Number.isSafeInteger(value.value)) return undefined
  return value.value
}

/** A value as a message shows it, cut to a few words. */
export function describeJson(value: JsonValue | undefined): string {
  if (value === undefined) return 'nothing'
  if (value === null || typeof value === 'boolean') return String(value)
  if (typeof value === 'string') return quoted(value)
  if (isJsonArray(value)) return `a list of ${value.length}`
  return isJsonObject(value) ? 'an object' : value.text.slice(0, 40)
}

/**
 * @param what names the text in messages, such as `adapter_config.json`
 * @throws ServingError `adapter_invalid` with the offset in characters and the key where reading stopped
 * @example readJson('{"r": 8}', 'adapter_config.json')
 */
export function readJson(text: string, what: string): JsonValue {
  return new JsonReader(text, what).read()
}

/** UTF-8 without a byte order mark, or `adapter_invalid`. */
export function decodeUtf8(bytes: Uint8Array, what: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (cause) {
    throw adapterInvalid(`${what} is not UTF-8${cause instanceof RangeError ? ' of a readable size' : ''}`)
  }
}

class JsonReader {
  readonly #text: string
  readonly #what: string
  #at = 0
  #key = ''

  constructor(text: string, what: string) {
    this.#text = text
    this.#what = what
  }

  read(): JsonValue {
    const value = this.#value(0)
    this.#skipSpace()
    if (this.#at < this.#text.length) throw this.#error('text goes on after the end of the JSON value')
    return value
  }

  #value(depth: number): JsonValue {
    if (depth > MAX_DEPTH) throw this.#error(`nested deeper than ${MAX_DEPTH}`)
    this.#skipSpace()
    switch (this.#text[this.#at]) {
      case undefined:
        throw this.#error('the text ends too early')
      case '{':
        return this.#object(depth)
      case '[':
        return this.#array(depth)
      case '"':
        return this.#string()
      default:
        return this.#literal()
    }
  }

  #object(depth: number): JsonObject {
    const members = new Map<string, JsonValue>()
    this.#at += 1
    if (this.#take('}')) return members
    do {
      this.#skipSpace()
      if (this.#text[this.#at] !== '"') throw this.#error('a key in double quotes is expected')
      const key = this.#string()
      if (members.has(key)) throw this.#error(`the key ${quoted(key)} stands there twice`)
      this.#key = key
      if (!this.#take(':')) throw this.#error('":" is expected')
      members.set(key, this.#value(depth + 1))
    } while (this.#take(','))
    if (!this.#take('}')) throw this.#error('"," or "}" is expected')
    return members
  }

  #array(depth: number): readonly JsonValue[] {
    const items: JsonValue[] = []
    this.#at += 1
    if (this.#take(']')) return items
    do items.push(this.#value(depth + 1))
    while (this.#take(','))
    if (!this.#take(']')) throw this.#error('"," or "]" is expected')
    return items
  }

  #string(): string {
    this.#at += 1
    let value = ''
    for (;;) {
      value += this.#skip(PLAIN_TEXT)
      const next = this.#text[this.#at]
      if (next === undefined) throw this.#error('a string does not end')
      this.#at += 1
      if (next === '"') return value
      if (next !== '\\') throw this.#error('a control character stands in a string')
      value += this.#escape()
    }
  }

  #escape(): string {
    const letter = this.#text[this.#at] ?? ''
    this.#at += 1
    if (letter !== 'u') {
      const character = escapes.get(letter)
      if (character === undefined) throw this.#error('an unknown escape stands in a string')
      return character
    }
    const digits = this.#text.slice(this.#at, this.#at + 4)
    if (!/^[0-9a-fA-F]{4}$/.test(digits)) throw this.#error('\\u needs four hex digits')
    this.#at += 4
    return String.fromCharCode(Number.parseInt(digits, 16))
  }

  #literal(): JsonValue {
    const text = this.#skip(NUMBER)
    if (text !== '') {
      const value = Number(text)
      if (!Number.isFinite(value)) throw this.#error(`the number ${text.slice(0, 40)} is out of range`)
      return { text, value }
    }
    const word = this.#skip(WORD)
    if (word === 'null') return null
    if (word === 'true') return true
    if (word === 'false') return false
    throw this.#error(word === '' ? 'a value is expected' : `${quoted(word)} is not a JSON value`)
  }

  #take(sign: string): boolean {
    this.#skipSpace()
    if (this.#text[this.#at] !== sign) return false
    this.#at += 1
    return true
  }

  #skip(pattern: RegExp): string {
    pattern.lastIndex = this.#at
    if (!pattern.test(this.#text)) return ''
    const start = this.#at
    this.#at = pattern.lastIndex
    return this.#text.slice(start, this.#at)
  }

  #skipSpace(): void {
    for (;;) {
      const code = this.#text.charCodeAt(this.#at)
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return
      this.#at += 1
    }
  }

  #error(reason: string) {
    const where = this.#key === '' ? '' : `, near the key ${quoted(this.#key)}`
    return adapterInvalid(`${this.#what} is not strict JSON: ${reason} (character ${this.#at}${where})`)
  }
}
