import { ServingError } from '@quiver/protocol'
import { compilePattern, splitByPattern } from './split-pattern.ts'
import type { Pattern, PreTokenizerStep, SplitBehaviour } from './tokenizer-json.ts'

/** Cuts text into the pieces within which tokens are built. */
export interface PreTokenizer {
  /** Pieces are cut into bytes, not characters, before they are merged. */
  readonly byteLevel: boolean
  /** @param first whether `text` begins the whole input. @returns pieces, none empty */
  split(text: string, first: boolean): readonly string[]
}

/** How GPT-2 cuts text (`encoder.py`); also what `ByteLevel` does by itself. */
export const gpt2Pattern = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

type Step = (pieces: readonly string[], first: boolean) => readonly string[]

/** @throws ServingError `invalid_request` on a pattern that cannot be used or steps in an order that has no meaning here */
export function createPreTokenizer(steps: readonly PreTokenizerStep[]): PreTokenizer {
  const byteLevelAt = steps.findIndex(({ type }) => type === 'ByteLevel')
  if (byteLevelAt !== -1 && byteLevelAt !== steps.length - 1) {
    throw new ServingError(
      'invalid_request',
      'this tokenizer is not supported: pre_tokenizer: ByteLevel is followed by another step',
    )
  }
  const functions = steps.flatMap(toStep)
  return {
    byteLevel: byteLevelAt !== -1,
    split: (text, first) => functions.reduce<readonly string[]>((pieces, step) => step(pieces, first), [text]),
  }
}

function toStep(step: PreTokenizerStep): Step[] {
  switch (step.type) {
    case 'Split':
      return [splitStep(step.pattern, step.behavior, step.invert)]
    case 'Digits':
      // Rust's char::is_numeric is the general category N, not only the ASCII digits that \d means in JavaScript.
      return [splitStep({ Regex: '\\p{N}' }, step.individual_digits ? 'Isolated' : 'Contiguous')]
    case 'ByteLevel': {
      const cut = step.use_regex ? [splitStep({ Regex: gpt2Pattern }, 'Isolated')] : []
      return step.add_prefix_space ? [prefixStep(' '), ...cut] : cut
    }
    case 'Metaspace':
      return metaspaceSteps(step)
  }
}

function splitStep(source: Pattern, behaviour: SplitBehaviour, invert = false): Step {
  const pattern = compilePattern('pre_tokenizer', source)
  return (pieces) => {
    const cut: string[] = []
    for (const piece of pieces) splitByPattern(piece, { pattern, behaviour, invert }, cut)
    return cut
  }
}

function prefixStep(prefix: string): Step {
  return (pieces) => pieces.map((piece) => (piece.startsWith(prefix) ? piece : prefix + piece))
}

function metaspaceSteps(step: Extract<PreTokenizerStep, { type: 'Metaspace' }>): Step[] {
  const { replacement, prepend_scheme: scheme } = step
  const mark: Step = (pieces, first) =>
    pieces.map((piece, at) => {
      const marked = piece.replaceAll(' ', replacement)
      const prepends = scheme === 'always' || (scheme === 'first' && first && at === 0)
      return prepends && !marked.startsWith(replacement) ? replacement + marked : marked
    })
  return step.split ? [mark, splitStep({ String: replacement }, 'MergedWithNext')] : [mark]
}
