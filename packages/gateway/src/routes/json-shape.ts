/**
 * Bounds what a JSON text may hold before it is parsed: two megabytes can hold a hundred thousand keys, and making an object of
 * them stops everybody's streams for longer than a step.
 */
import { limits, ServingError } from '@quiver/protocol'

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COMMA = 0x2c
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d

/**
 * Counts what separates and nests, outside strings; whether the text is JSON at all is the parser's business.
 * @param before values of other texts that count too
 * @returns how many values there are with those of this text, at most `limits.jsonValues`
 * @throws ServingError `invalid_request` for more than `limits.jsonValues` values or `limits.jsonDepth` levels
 */
export function requireModestJson(text: string, before = 0): number {
  let values = before + 1
  let depth = 0
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case QUOTE:
        at = closingQuote(text, at)
        break
      case COMMA:
        values++
        if (values > limits.jsonValues) throw refused(`has more than ${limits.jsonValues} values`)
        break
      case OPEN_BRACE:
      case OPEN_BRACKET:
        depth++
        if (depth > limits.jsonDepth) throw refused(`is nested deeper than ${limits.jsonDepth} levels`)
        break
      case CLOSE_BRACE:
      case CLOSE_BRACKET:
        depth--
        break
    }
  }
  return values
}

/** The position of the quote that closes the string opened at `start`; the end of the text where none does. */
function closingQuote(text: string, start: number): number {
  for (let at = text.indexOf('"', start + 1); at !== -1; at = text.indexOf('"', at + 1)) {
    let backslashes = 0
    while (text.charCodeAt(at - 1 - backslashes) === BACKSLASH) backslashes++
    if (backslashes % 2 === 0) return at
  }
  return text.length
}

function refused(why: string): ServingError {
  return new ServingError('invalid_request', `The request body ${why}: send a smaller one`)
}
