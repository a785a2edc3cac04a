import { SplitPreTokenizer } from '@huggingface/tokenizers'
import { ServingError } from '@quiver/protocol'
import type { Pattern, SplitBehaviour } from './tokenizer-json.ts'

declare module '@huggingface/tokenizers' {
  // The package has these types, but its declarations import each other without file endings, which Node's rules cannot follow.
  export class SplitPreTokenizer {
    constructor(config: { type: 'Split'; pattern: { Regex: string }; behavior: 'Isolated'; invert: boolean })
    readonly pattern: RegExp | null
  }
}

/**
 * A pattern of `tokenizer.json` as a global regular expression. These patterns are written for Oniguruma, whose `\s`, `\d`
 * and `(?i:)` mean other characters than JavaScript's; @huggingface/tokenizers translates them.
 * @throws ServingError `invalid_request` naming `part` when the pattern has no equal in JavaScript
 */
export function compilePattern(part: string, pattern: Pattern): RegExp {
  if ('String' in pattern) return new RegExp(escapeForPattern(pattern.String), 'gu')
  const source = foldBeyondAscii(pattern.Regex)
  try {
    const split = new SplitPreTokenizer({ type: 'Split', pattern: { Regex: source }, behavior: 'Isolated', invert: false })
    if (split.pattern !== null) return split.pattern
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    throw unusable(part, pattern.Regex, error)
  }
  throw unusable(part, pattern.Regex)
}

function escapeForPattern(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')
}

function unusable(part: string, source: string, cause?: SyntaxError): ServingError {
  return new ServingError(
    'invalid_request',
    `this tokenizer is not supported: ${part}: the pattern ${source.slice(0, 200)} cannot be used${cause ? `: ${cause.message}` : ''}`,
    {},
    { cause },
  )
}

/**
 * Without regard to case, Oniguruma also takes the long s (U+017F) for an s and the Kelvin sign (U+212A) for a k; the
 * translation folds ASCII only. Groups with classes or groups inside do not occur in the patterns of tokenizers.
 */
function foldBeyondAscii(source: string): string {
  return source.replace(/\(\?i:[^()[\]\\]*\)/g, (group) => {
    const alternatives = group.slice('(?i:'.length)
    return `(?i:${alternatives.replaceAll('s', '[s\\u017f]').replaceAll('k', '[k\\u212a]')}`
  })
}

/**
 * Cuts `text` where `pattern` matches, the matches treated by `behaviour`, and appends the pieces (never empty) to `into`.
 * @param invert what lies between the matches is treated as the match
 */
export function splitByPattern(
  text: string,
  { pattern, behaviour, invert }: { readonly pattern: RegExp; readonly behaviour: SplitBehaviour; readonly invert: boolean },
  into: string[],
): void {
  if (behaviour === 'Isolated') {
    for (const [piece] of segments(text, pattern)) into.push(piece)
    return
  }
  let open = ''
  let openMatched = false
  for (const [piece, found] of segments(text, pattern)) {
    const matched = found !== invert
    if (behaviour === 'Removed') {
      if (!matched) into.push(piece)
      continue
    }
    const joins =
      open !== '' &&
      (behaviour === 'Contiguous'
        ? matched === openMatched
        : behaviour === 'MergedWithPrevious'
          ? matched && !openMatched
          : !matched && openMatched)
    if (joins) {
      open += piece
    } else {
      if (open !== '') into.push(open)
      open = piece
    }
    openMatched = matched
  }
  if (open !== '') into.push(open)
}

/** Matches and what lies between them, in order, each with whether it matched. */
function* segments(text: string, pattern: RegExp): Generator<readonly [string, boolean]> {
  let end = 0
  for (const match of text.matchAll(pattern)) {
    if (match[0] === '') continue
    if (match.index > end) yield [text.slice(end, match.index), false]
    yield [match[0], true]
    end = match.index + match[0].length
  }
  if (end < text.length) yield [text.slice(end), false]
}
