/** What the process that renders adapters' templates is told and answers. Both ends are ours, so nothing is parsed. */
import type { ChatMessage } from '@quiver/protocol'
import type { ChatTemplateOptions } from './tokenizer.ts'

export interface RenderRequest {
  readonly source: string
  readonly messages: readonly ChatMessage[]
  readonly options: ChatTemplateOptions
  readonly specialTokens: Readonly<Record<string, string>>
  /** Milliseconds since 1970. */
  readonly wallClockMs: number
}

export type RenderReply =
  | { readonly type: 'ready' }
  | { readonly type: 'rendered'; readonly text: string }
  /** `reason` is for the client. */
  | { readonly type: 'refused'; readonly reason: string }
