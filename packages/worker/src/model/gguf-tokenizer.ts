import { ServingError } from '@quiver/protocol'
import type { TokenizerFiles } from '../tokenizer/tokenizer-files.ts'
import type { GgufMetadata } from './gguf-metadata.ts'

/** Pre-tokenizers before whose text llama.cpp puts the BOS token where the file does not say. */
const bosByDefault: ReadonlySet<string> = new Set(['llama3', 'llama-v3', 'llama-bpe', 'falcon3', 'pixtral', 'tekken'])

/**
 * The `tokenizer.*` metadata of a GGUF file.
 * @throws ServingError `invalid_request` when the file has no tokenizer
 */
export function ggufTokenizerFiles(metadata: GgufMetadata, path: string): TokenizerFiles {
  const model = metadata.text('tokenizer.ggml.model')
  const tokens = metadata.texts('tokenizer.ggml.tokens')
  if (model === undefined || tokens === undefined) {
    throw new ServingError(
      'invalid_request',
      `${path} has no tokenizer: metadata tokenizer.ggml.model and tokenizer.ggml.tokens are needed`,
    )
  }
  const tokenTypes = metadata.numbers('tokenizer.ggml.token_type') ?? tokens.map(() => 1)
  if (tokenTypes.length !== tokens.length) {
    throw new ServingError('invalid_request', `${path}: ${tokenTypes.length} token types for ${tokens.length} tokens`)
  }
  const pre = metadata.text('tokenizer.ggml.pre') ?? 'default'
  const tokenId = (name: string): number | undefined => {
    const id = metadata.count(`tokenizer.ggml.${name}_token_id`)
    if (id !== undefined && id >= tokens.length) {
      throw new ServingError(
        'invalid_request',
        `${path}: metadata tokenizer.ggml.${name}_token_id = ${id}, but there are ${tokens.length} tokens`,
      )
    }
    return id
  }
  const bosTokenId = tokenId('bos')
  const eosTokenId = tokenId('eos')
  const chatTemplate = metadata.text('tokenizer.chat_template')
  return {
    kind: 'gguf',
    model,
    pre,
    tokens,
    merges: metadata.texts('tokenizer.ggml.merges') ?? [],
    tokenTypes,
    ...(bosTokenId === undefined ? {} : { bosTokenId }),
    ...(eosTokenId === undefined ? {} : { eosTokenId }),
    addBos: metadata.flag('tokenizer.ggml.add_bos_token') ?? (model === 'llama' || bosByDefault.has(pre)),
    ...(chatTemplate === undefined ? {} : { chatTemplate }),
  }
}
