import { createRequire } from 'node:module'
import type { CompiledGrammar, GrammarCompiler, GrammarMatcher, TokenizerInfo } from '@mlc-ai/web-xgrammar'

export type { CompiledGrammar, GrammarCompiler, GrammarMatcher }

/** What is used of the library. */
export interface Xgrammar {
  readonly TokenizerInfo: typeof TokenizerInfo
  readonly GrammarCompiler: typeof GrammarCompiler
  readonly GrammarMatcher: typeof GrammarMatcher
}

/**
 * Loads the library into a thread of its own. It is a UMD file in a package that says it has modules, so what CommonJS gives a
 * file must be there as globals: `require` for good, because the library loads its WASM later, and a console that hands over
 * the reason of a failure, which it prints before it gives up.
 * @param onPrinted each line that the library prints as an error
 */
export async function loadXgrammar(onPrinted: (line: string) => void): Promise<Xgrammar> {
  const require = createRequire(import.meta.url)
  const file = require.resolve('@mlc-ai/web-xgrammar')
  const silent = { log: () => {}, error: onPrinted, warn: () => {} }
  Object.assign(globalThis, { require, __filename: file, __dirname: '.', console: silent })
  await import('@mlc-ai/web-xgrammar')
  return Reflect.get(globalThis, 'xgrammar') as Xgrammar
}
