/** What a grammar thread is told and answers. All of it stays in this process, so nothing is parsed. */

/** Given to a thread when it starts. */
export interface ThreadStart {
  /** Every token of the model in byte-level spelling (byte-alphabet.ts), by id; empty for one that may never be chosen. */
  readonly spellings: readonly string[]
  readonly eosTokenIds: readonly number[]
}

export type GrammarSource =
  /** `closed`: objects have the properties they name and no other. */
  | { readonly kind: 'schema'; readonly schema: string; readonly closed: boolean }
  | { readonly kind: 'regex'; readonly pattern: string }

export type ToThread =
  | { readonly type: 'compile'; readonly grammar: number; readonly source: GrammarSource }
  | { readonly type: 'forget'; readonly grammar: number }
  /** Follow one text. Its masks go into `shared` (mask-memory.ts). */
  | { readonly type: 'open'; readonly matcher: number; readonly grammar: number; readonly shared: SharedArrayBuffer }
  | { readonly type: 'accept'; readonly matcher: number; readonly token: number }
  | { readonly type: 'close'; readonly matcher: number }

export type FromThread =
  | { readonly type: 'compiled'; readonly grammar: number }
  /** The thread is spent: the library is in no known state after it gave up. */
  | { readonly type: 'refused'; readonly grammar: number; readonly reason: string }
