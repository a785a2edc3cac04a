import type { AddedToken } from './tokenizer-json.ts'

/** Finds the tokens that are recognised in plain text before anything else happens to it (`<|im_start|>`). */
export interface AddedTokenSplitter {
  /** @returns text between tokens (never empty) as strings, tokens as their ids, in order */
  split(text: string): readonly (string | number)[]
}

interface TrieNode {
  readonly children: Map<number, TrieNode>
  token?: AddedToken
}

const WORD = '[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]'
const endsWithWord = new RegExp(`${WORD}$`, 'u')
const startsWithWord = new RegExp(`^${WORD}`, 'u')
const whiteSpace = /^\p{White_Space}$/u

/**
 * Leftmost match first, the longest of those that begin there, as Rust's `tokenizers` has it. A trie over UTF-16 units: text
 * is walked once, and at each place no further than the longest token.
 * @param spelling what to look for in the text for each token: its content, or its content normalised
 */
export function createAddedTokenSplitter(
  tokens: readonly AddedToken[],
  spelling: (content: string) => string,
): AddedTokenSplitter {
  const root: TrieNode = { children: new Map() }
  for (const token of tokens) insert(root, spelling(token.content), token)
  if (root.children.size === 0) return { split: (text) => (text === '' ? [] : [text]) }
  return { split: (text) => splitText(root, text) }
}

function insert(root: TrieNode, spelling: string, token: AddedToken): void {
  let node = root
  for (let at = 0; at < spelling.length; at++) {
    const unit = spelling.charCodeAt(at)
    const child: TrieNode = node.children.get(unit) ?? { children: new Map() }
    node.children.set(unit, child)
    node = child
  }
  if (node !== root) node.token = token
}

function splitText(root: TrieNode, text: string): readonly (string | number)[] {
  const segments: (string | number)[] = []
  let done = 0
  let at = 0
  while (at < text.length) {
    const found = longestAt(root, text, at)
    if (found === undefined) {
      at++
      continue
    }
    const end = at + found.length
    const { token } = found
    if (!token.single_word || standsAlone(text, at, end)) {
      const from = token.lstrip ? skipSpaceBack(text, at, done) : at
      const to = token.rstrip ? skipSpace(text, end) : end
      if (from > done) segments.push(text.slice(done, from))
      segments.push(token.id)
      done = to
    }
    at = Math.max(end, done)
  }
  if (done < text.length) segments.push(text.slice(done))
  return segments
}

function longestAt(root: TrieNode, text: string, start: number): { token: AddedToken; length: number } | undefined {
  let node = root.children.get(text.charCodeAt(start))
  let found: { token: AddedToken; length: number } | undefined
  for (let at = start + 1; node !== undefined; at++) {
    if (node.token !== undefined) found = { token: node.token, length: at - start }
    if (at >= text.length) break
    node = node.children.get(text.charCodeAt(at))
  }
  return found
}

function standsAlone(text: string, start: number, end: number): boolean {
  // Two units before: the last character may be a surrogate pair.
  return !endsWithWord.test(text.slice(Math.max(0, start - 2), start)) && !startsWithWord.test(text.slice(end, end + 2))
}

function skipSpaceBack(text: string, from: number, least: number): number {
  let at = from
  while (at > least && whiteSpace.test(text.charAt(at - 1))) at--
  return at
}

function skipSpace(text: string, from: number): number {
  let at = from
  while (at < text.length && whiteSpace.test(text.charAt(at))) at++
  return at
}
