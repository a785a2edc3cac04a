/**
 * Seeds have 64 bits in both directions, a JSON number only 53. Above that the digits are taken from the body's own text.
 * The whole body is not parsed with a reviver for it: that calls back for each of a hostile body's hundred thousand values.
 */
import { ServingError } from '@quiver/protocol'

const SEED_MAX = 2n ** 64n - 1n

/**
 * @param body the JSON text that was parsed without an error
 * @param seed `parameters.seed` as JSON.parse gave it
 * @returns the seed's exact digits, 0 … 2^64−1
 * @throws ServingError `invalid_parameters` when it is not a whole number in that range
 * @example exactSeed('{"parameters":{"seed":18446744073709551615}}', 18446744073709551615) // '18446744073709551615'
 */
export function exactSeed(body: string, seed: number): string {
  if (Number.isSafeInteger(seed) && seed >= 0) return String(seed)
  const digits = seed > 0 ? numberAt(body, ['parameters', 'seed']) : undefined
  if (digits !== undefined && /^[0-9]{16,20}$/.test(digits) && BigInt(digits) <= SEED_MAX) return digits
  throw new ServingError('invalid_parameters', `\`seed\` must be a whole number from 0 to ${SEED_MAX}`)
}

/** The text of the number at `path` in valid JSON. A key that stands twice counts as it does for JSON.parse: the last one wins. */
function numberAt(json: string, path: readonly string[]): string | undefined {
  let found: string | undefined
  /** Nesting inside the root object, and how many of the path's keys the open objects follow. */
  let depth = 0
  let followed = 0
  let key: string | undefined
  for (let at = 0; at < json.length; ) {
    const character = json.charCodeAt(at)
    if (character === QUOTE) {
      const end = stringEnd(json, at)
      if (depth === followed + 1 && isKey(json, end)) {
        key = JSON.parse(json.slice(at, end))
        // Said again, the outer object starts anew, and what an earlier one held is forgotten.
        if (key === path[followed]) found = undefined
      }
      at = end
    } else if (character === OPEN_BRACE || character === OPEN_BRACKET) {
      if (depth === followed + 1 && character === OPEN_BRACE && key === path[followed]) followed++
      depth++
      key = undefined
      at++
    } else if (character === CLOSE_BRACE || character === CLOSE_BRACKET) {
      depth--
      if (depth === followed && followed > 0) followed--
      at++
    } else if (character === COMMA) {
      if (depth === followed + 1) key = undefined
      at++
    } else if (isNumberStart(character)) {
      const end = numberEnd(json, at)
      if (depth === path.length && followed === path.length - 1 && key === path[followed]) found = json.slice(at, end)
      at = end
    } else {
      at++
    }
  }
  return found
}

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COMMA = 0x2c
const COLON = 0x3a
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d

/** The position after the closing quote of the string that opens at `start`. */
function stringEnd(json: string, start: number): number {
  for (let at = json.indexOf('"', start + 1); at !== -1; at = json.indexOf('"', at + 1)) {
    let slashes = 0
    while (json.charCodeAt(at - 1 - slashes) === BACKSLASH) slashes++
    if (slashes % 2 === 0) return at + 1
  }
  return json.length
}

function isKey(json: string, end: number): boolean {
  let at = end
  while (at < json.length && json.charCodeAt(at) <= 0x20) at++
  return json.charCodeAt(at) === COLON
}

function isNumberStart(character: number): boolean {
  return character === 0x2d || (character >= 0x30 && character <= 0x39)
}

function numberEnd(json: string, start: number): number {
  let at = start + 1
  while (at < json.length && !endsNumber(json.charCodeAt(at))) at++
  return at
}

function endsNumber(character: number): boolean {
  return character === COMMA || character === CLOSE_BRACE || character === CLOSE_BRACKET || character <= 0x20
}
