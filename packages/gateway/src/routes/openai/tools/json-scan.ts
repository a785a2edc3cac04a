/** Deeper JSON than this is taken for none: nobody writes arguments like that, and later readers recurse. */
const MAX_DEPTH = 64

const WORD = /^(?:-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null)$/
const ESCAPED = '"\\/bfnrt'

/**
 * What may come next. `key` and `item` may instead be the end of an empty object or list; `next key` comes after a comma.
 */
type Expects = 'value' | 'key' | 'next key' | 'item' | 'colon' | 'after value' | 'string' | 'escape' | 'hex' | 'word' | 'end'

/**
 * Follows one JSON value (RFC 8259) that is an object or a list, character by character, and says at once where it can be none any
 * more, so that text which only began like JSON is not held back for longer than needed.
 */
export class JsonScan {
  readonly #open: ('{' | '[')[] = []
  #expects: Expects = 'value'
  /** The string being read is a key. */
  #isKey = false
  #word = ''
  #hexLeft = 0

  /** Objects and lists that are open. */
  get depth(): number {
    return this.#open.length
  }

  /** Between two tokens: a key, or a value, comes next or has just ended. */
  get isBetween(): boolean {
    return !['string', 'escape', 'hex', 'word'].includes(this.#expects)
  }

  get expectsKey(): boolean {
    return this.#expects === 'key' || this.#expects === 'next key'
  }

  get expectsValue(): boolean {
    return this.#expects === 'value'
  }

  /** @returns `done` with the last character, `bad` for one that cannot come here; then nothing more may be pushed */
  push(character: string): 'open' | 'done' | 'bad' {
    const isRight = this.#take(character)
    if (!isRight) return 'bad'
    return this.#expects === 'end' ? 'done' : 'open'
  }

  #take(character: string): boolean {
    switch (this.#expects) {
      case 'string':
        return this.#inString(character)
      case 'escape':
        return this.#escaped(character)
      case 'hex':
        this.#hexLeft--
        if (this.#hexLeft === 0) this.#expects = 'string'
        return /^[0-9a-fA-F]$/.test(character)
      case 'word':
        if (/^[-+.0-9A-Za-z]$/.test(character)) {
          this.#word += character
          return true
        }
        this.#expects = 'after value'
        return WORD.test(this.#word) && this.#take(character)
      default:
        return /^[ \t\n\r]$/.test(character) || this.#structure(character)
    }
  }

  #inString(character: string): boolean {
    if (character === '\\') this.#expects = 'escape'
    else if (character === '"') this.#expects = this.#isKey ? 'colon' : 'after value'
    return character >= ' '
  }

  #escaped(character: string): boolean {
    this.#hexLeft = 4
    this.#expects = character === 'u' ? 'hex' : 'string'
    return character === 'u' || ESCAPED.includes(character)
  }

  #structure(character: string): boolean {
    const expects = this.#expects
    switch (character) {
      case '}':
      case ']':
        return this.#close(character)
      case ',':
        if (expects !== 'after value') return false
        this.#expects = this.#open.at(-1) === '{' ? 'next key' : 'value'
        return true
      case ':':
        this.#expects = 'value'
        return expects === 'colon'
      case '"':
        this.#isKey = expects === 'key' || expects === 'next key'
        this.#expects = 'string'
        return this.#isKey || (this.depth > 0 && (expects === 'value' || expects === 'item'))
      default:
        return (expects === 'value' || expects === 'item') && this.#begin(character)
    }
  }

  #begin(character: string): boolean {
    if (character === '{' || character === '[') {
      this.#open.push(character)
      this.#expects = character === '{' ? 'key' : 'item'
      return this.depth <= MAX_DEPTH
    }
    this.#word = character
    this.#expects = 'word'
    return this.depth > 0 && /^[-0-9tfn]$/.test(character)
  }

  #close(character: '}' | ']'): boolean {
    const opening = this.#open.at(-1)
    const mayClose = this.#expects === 'after value' || this.#expects === (opening === '{' ? 'key' : 'item')
    if (!mayClose || opening !== (character === '}' ? '{' : '[')) return false
    this.#open.pop()
    this.#expects = this.depth === 0 ? 'end' : 'after value'
    return true
  }
}
