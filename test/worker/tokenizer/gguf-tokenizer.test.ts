import { describe, expect, it } from 'vitest'
import { createTokenizer } from '../../../packages/worker/src/tokenizer/create-tokenizer.ts'
import { deps, readFixture, readIds, readJsonFixture, smollm2Files } from './fixtures.ts'

interface ByteLevelJson {
  readonly added_tokens: { readonly id: number }[]
  readonly model: { readonly vocab: Record<string, number>; readonly merges: [string, string][] }
}

/** What llama.cpp's converter writes for a byte-level `tokenizer.json`. */
function asGguf(name: string, pre: string, addBos: boolean) {
  const json = readJsonFixture<ByteLevelJson>(`${name}.tokenizer.json`)
  const special = new Set(json.added_tokens.map(({ id }) => id))
  const tokens = Object.entries(json.model.vocab)
    .toSorted(([, a], [, b]) => a - b)
    .map(([token]) => token)
  return {
    kind: 'gguf',
    model: 'gpt2',
    pre,
    tokens,
    merges: json.model.merges.map((pair) => pair.join(' ')),
    tokenTypes: tokens.map((_, id) => (special.has(id) ? 3 : 1)),
    bosTokenId: 0,
    addBos,
  } as const
}

describe('a tokenizer from GGUF metadata', () => {
  it.each([
    ['llama3', 'llama-bpe', true],
    ['llama3', 'llama3', true],
    ['qwen2', 'qwen2', false],
  ])('equals the tokenizer.json of %s that it was converted from (%s)', (name, pre, addBos) => {
    const tokenizer = createTokenizer(asGguf(name, pre, addBos), deps)
    expect(tokenizer.encode(readFixture('mixed-text.txt').toString('utf8'))).toEqual(readIds(name))
  })

  it('recognises control and user-defined tokens in a text, and no others', () => {
    const files = smollm2Files()
    const types = files.tokenTypes.with(3, 4).with(4, 1)
    const tokenizer = createTokenizer({ ...files, tokenTypes: types }, deps)
    expect(tokenizer.encode('<|im_start|><repo_name><reponame>').slice(0, 2)).toEqual([1, 3])
    expect(tokenizer.encode('<reponame>').length).toBeGreaterThan(1)
    expect(tokenizer.isSpecial(3)).toBe(false)
    expect(tokenizer.decode([1, 3])).toBe('<repo_name>')
  })

  it('refuses a SentencePiece model by name', () => {
    expect(() => createTokenizer({ ...smollm2Files(), model: 'llama' }, deps)).toThrow(
      /tokenizer\.ggml\.model "llama"; only "gpt2".*Hugging Face folder/,
    )
  })

  it.each(['default', 'deepseek-llm', ''])('refuses the pre-tokenizer %j, which it does not know for certain', (pre) => {
    expect(() => createTokenizer({ ...smollm2Files(), pre }, deps)).toThrow(`tokenizer.ggml.pre ${JSON.stringify(pre)}`)
  })

  it('refuses a BOS that has no id', () => {
    const { bosTokenId: _, ...files } = smollm2Files()
    expect(() => createTokenizer({ ...files, addBos: true }, deps)).toThrow('tokenizer.ggml.bos_token_id is missing')
  })

  it('refuses merges of tokens that are not there', () => {
    const files = smollm2Files()
    expect(() => createTokenizer({ ...files, merges: [...files.merges, 'zzz qqq'] }, deps)).toThrow(
      'merge 48900 needs "zzz", which is not in the vocabulary',
    )
    expect(() => createTokenizer({ ...files, merges: ['a b c'] }, deps)).toThrow('"a b c" is not two tokens')
  })
})
