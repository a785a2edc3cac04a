import { ServingError } from '@quiver/protocol'
import { gpt2Pattern } from './pre-tokenizer.ts'
import type { TokenizerFiles } from './tokenizer-files.ts'

type GgufTokenizer = Extract<TokenizerFiles, { kind: 'gguf' }>

/** `tokenizer.ggml.token_type` of tokens that are recognised in text. */
const CONTROL = 3
const USER_DEFINED = 4

/** Before BPE, what `tokenizer.ggml.pre` names: the normalizer and pre-tokenizer of the model's own `tokenizer.json`. */
interface PreTokenization {
  readonly normalizer: unknown
  readonly steps: readonly unknown[]
  /** A piece that is a token as a whole is not built by merges. */
  readonly ignoreMerges: boolean
}

const byteLevel = (useRegex: boolean) => ({ type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: useRegex })
const isolate = (pattern: string) => ({ type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false })

const contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
const wordsAndSpace = (digits: string) =>
  `${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`

const gpt2: PreTokenization = { normalizer: null, steps: [isolate(gpt2Pattern), byteLevel(false)], ignoreMerges: false }
const smollm: PreTokenization = {
  normalizer: null,
  steps: [{ type: 'Digits', individual_digits: true }, byteLevel(true)],
  ignoreMerges: false,
}
const llama3: PreTokenization = {
  normalizer: null,
  steps: [isolate(wordsAndSpace('\\p{N}{1,3}')), byteLevel(false)],
  ignoreMerges: true,
}
const qwen2: PreTokenization = {
  normalizer: { type: 'NFC' },
  steps: [isolate(wordsAndSpace('\\p{N}')), byteLevel(false)],
  ignoreMerges: false,
}

/**
 * The names of llama.cpp's converter (`convert_hf_to_gguf_update.py`, `llama-vocab.cpp`) whose origin is one known
 * `tokenizer.json`. `default` is what a file has whose pre-tokenizer its converter did not know; nobody can tell what it was.
 */
const preTokenizations: ReadonlyMap<string, PreTokenization> = new Map([
  ['gpt-2', gpt2],
  ['gpt2', gpt2],
  ['smollm', smollm],
  ['llama3', llama3],
  ['llama-v3', llama3],
  ['llama-bpe', llama3],
  ['qwen2', qwen2],
])

/**
 * Rebuilds from a GGUF file's metadata the `tokenizer.json` that the file was converted from.
 * @throws ServingError `invalid_request` naming the tokenizer model or pre-tokenizer that is not supported
 */
export function toTokenizerJson(files: GgufTokenizer): Record<string, unknown> {
  if (files.model !== 'gpt2') {
    throw unsupported(`tokenizer.ggml.model ${JSON.stringify(files.model)}; only "gpt2" (byte-level BPE) is`)
  }
  const pre = preTokenizations.get(files.pre)
  if (pre === undefined) {
    throw unsupported(`tokenizer.ggml.pre ${JSON.stringify(files.pre)}; ${[...preTokenizations.keys()].join(', ')} are`)
  }
  return {
    version: '1.0',
    added_tokens: files.tokens.flatMap((content, id) => {
      const type = files.tokenTypes[id]
      if (type !== CONTROL && type !== USER_DEFINED) return []
      return [{ id, content, special: type === CONTROL, normalized: false }]
    }),
    normalizer: pre.normalizer,
    pre_tokenizer: { type: 'Sequence', pretokenizers: pre.steps },
    model: {
      type: 'BPE',
      ignore_merges: pre.ignoreMerges,
      vocab: Object.fromEntries(files.tokens.map((token, id) => [token, id])),
      merges: files.merges,
    },
    post_processor: files.addBos ? bosTemplate(files) : null,
    decoder: { type: 'ByteLevel' },
  }
}

function bosTemplate({ bosTokenId }: GgufTokenizer): unknown {
  if (bosTokenId === undefined) {
    throw new ServingError(
      'invalid_request',
      'the tokenizer is damaged: texts begin with a BOS token, but tokenizer.ggml.bos_token_id is missing',
    )
  }
  return {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: 'bos', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
    special_tokens: { bos: { id: 'bos', ids: [bosTokenId], tokens: ['bos'] } },
  }
}

function unsupported(what: string): ServingError {
  return new ServingError(
    'invalid_request',
    `this GGUF file's tokenizer is not supported: ${what}. Use the model's Hugging Face folder, which has a tokenizer.json`,
  )
}
