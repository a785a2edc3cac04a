import { describe, expect, it } from 'vitest'
import { createTokenizer } from '../../../packages/worker/src/tokenizer/create-tokenizer.ts'
import { deps, readJsonFixture } from './fixtures.ts'

type Json = Record<string, unknown>

const base = readJsonFixture<Json>('llama3.tokenizer.json')
const make = (changes: Json) => createTokenizer({ kind: 'json', tokenizer: { ...base, ...changes }, config: {} }, deps)
const changeModel = (changes: Json) => make({ model: { ...(base['model'] as Json), ...changes } })

describe('a tokenizer.json that is not understood in full is refused by name', () => {
  it.each([
    ['a model that is not BPE', () => changeModel({ type: 'Unigram' }), /model\.type: .*"Unigram"/],
    ['dropout', () => changeModel({ dropout: 0.1 }), /model\.dropout/],
    ['suffixes of words', () => changeModel({ end_of_word_suffix: '</w>' }), /model\.end_of_word_suffix/],
    ['a vocabulary without ids', () => changeModel({ vocab: { a: 'b' } }), /model\.vocab: "a" has no id/],
    ['no vocabulary', () => changeModel({ vocab: undefined }), /model\.vocab: it is missing/],
    ['no merges', () => changeModel({ merges: undefined }), /model\.merges: they are missing/],
    ['no model', () => make({ model: null }), /: model: /],
    ['an unknown normalizer', () => make({ normalizer: { type: 'Nmt' } }), /normalizer\.type: .*"Nmt"/],
    [
      'an unknown pre-tokenizer inside a sequence',
      () => make({ pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'UnicodeScripts' }] } }),
      /pre_tokenizer\.type: .*"UnicodeScripts"/,
    ],
    [
      'bytes before another step',
      () =>
        make({
          pre_tokenizer: {
            type: 'Sequence',
            pretokenizers: [
              { type: 'ByteLevel', add_prefix_space: false },
              { type: 'Digits', individual_digits: true },
            ],
          },
        }),
      /ByteLevel is followed by another step/,
    ],
    [
      'a pattern that JavaScript has not',
      () => make({ pre_tokenizer: { type: 'Split', pattern: { Regex: '(?<n>a)\\g<n>' }, behavior: 'Isolated' } }),
      /pre_tokenizer: the pattern .* cannot be used/,
    ],
    ['no decoder', () => make({ decoder: null }), /decoder: \[\] is neither/],
    ['an unknown decoder', () => make({ decoder: { type: 'WordPiece' } }), /decoder\.type/],
    ['an unknown post-processor', () => make({ post_processor: { type: 'BertProcessing' } }), /post_processor\.type/],
    [
      'a template with a token that it does not define',
      () =>
        make({
          post_processor: {
            type: 'TemplateProcessing',
            single: [{ SpecialToken: { id: '<x>' } }, { Sequence: { id: 'A' } }],
            special_tokens: {},
          },
        }),
      /post_processor names "<x>" but gives no id/,
    ],
    ['an added token without an id', () => make({ added_tokens: [{ content: 'x' }] }), /added_tokens\.0\.id/],
  ])('%s', (_, create, message) => {
    expect(create).toThrow(message)
    expect(create).toThrow(expect.objectContaining({ code: 'invalid_request' }))
  })

  it('reads a vocabulary that has __proto__ and constructor as tokens', () => {
    const vocab = JSON.parse('{"__proto__":0,"constructor":1,"a":2}')
    const tokenizer = changeModel({ vocab, merges: [], ignore_merges: false })
    expect(tokenizer.decode([1], { keepSpecial: true })).not.toBe('')
    expect(tokenizer.encode('a', { addSpecial: false })).toEqual([2])
  })
})
