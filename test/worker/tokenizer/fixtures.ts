import { readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import { createTokenizer, type TokenizerDeps } from '../../../packages/worker/src/tokenizer/create-tokenizer.ts'
import type { Tokenizer } from '../../../packages/worker/src/tokenizer/tokenizer.ts'
import type { TokenizerFiles } from '../../../packages/worker/src/tokenizer/tokenizer-files.ts'

const folder = new URL('../../fixtures/tokenizers/', import.meta.url)

/** 2024-07-06 09:05:03 UTC, a Saturday. */
export const deps: TokenizerDeps = { wallClockMs: () => Date.UTC(2024, 6, 6, 9, 5, 3) }

/** The small tokenizers trained for these tests, by the family whose pipeline they have. */
export const smallTokenizers = ['llama3', 'qwen2', 'tekken', 'gpt2', 'llama2', 'mistral'] as const
export const allTokenizers = ['smollm2', ...smallTokenizers] as const
export type TokenizerName = (typeof allTokenizers)[number]

export function readFixture(name: string): Buffer {
  return gunzipSync(readFileSync(new URL(`${name}.gz`, folder)))
}

export function readJsonFixture<T>(name: string): T {
  return JSON.parse(readFixture(name).toString('utf8')) as T
}

export function smollm2Files(): Extract<TokenizerFiles, { kind: 'gguf' }> {
  return readJsonFixture('smollm2.gguf.json')
}

export function loadTokenizer(name: TokenizerName): Tokenizer {
  if (name === 'smollm2') return createTokenizer(smollm2Files(), deps)
  return createTokenizer({ kind: 'json', tokenizer: readJsonFixture(`${name}.tokenizer.json`), config: {} }, deps)
}

/** Token ids as the fixtures hold them: 16 bits each, little-endian. */
export function readIds(name: string): number[] {
  const bytes = readFixture(`${name}.ids`)
  return Array.from({ length: bytes.length / 2 }, (_, index) => bytes.readUInt16LE(index * 2))
}
