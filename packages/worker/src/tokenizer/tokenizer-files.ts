/** What a model brings to make its tokenizer from, as its files say it. */
export type TokenizerFiles =
  | {
      readonly kind: 'json'
      /** Parsed `tokenizer.json`. */
      readonly tokenizer: Readonly<Record<string, unknown>>
      /** Parsed `tokenizer_config.json`; `{}` where there is none. */
      readonly config: Readonly<Record<string, unknown>>
      /** From `chat_template.jinja` or the config. */
      readonly chatTemplate?: string
    }
  | {
      /** The `tokenizer.*` metadata of a GGUF file. */
      readonly kind: 'gguf'
      /** `tokenizer.ggml.model`: gpt2 is byte-level BPE. */
      readonly model: string
      /** `tokenizer.ggml.pre`: how text is split before BPE. */
      readonly pre: string
      readonly tokens: readonly string[]
      /** Each `left right`, best first. */
      readonly merges: readonly string[]
      /** `tokenizer.ggml.token_type`: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte. */
      readonly tokenTypes: readonly number[]
      readonly bosTokenId?: number
      readonly eosTokenId?: number
      readonly addBos: boolean
      readonly chatTemplate?: string
    }
