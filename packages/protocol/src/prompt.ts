/**
 * What a run begins with: a text as it stands, its tokens, or a conversation that the worker renders with the model's chat
 * template.
 */
import { z } from 'zod'
import { limits } from './limits.ts'

/**
 * One message as chat templates take it: a role, a text or none, and whatever else the template reads (`name`, `tool_calls`,
 * `tool_call_id`). `arguments` of tool calls are objects here, as templates expect, not JSON text.
 */
export const chatMessageSchema = z.looseObject({ role: z.string().min(1), content: z.string().nullable() })
export type ChatMessage = z.infer<typeof chatMessageSchema>

export const promptSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('text'),
    text: z.string().min(1),
    /** false: the text has all of its special tokens. Absent: the tokenizer puts the model's around it. */
    addSpecial: z.boolean().optional(),
  }),
  /** Nothing is put around them. */
  z.object({ kind: z.literal('tokens'), ids: z.array(z.int().nonnegative()).min(1) }),
  z.object({
    kind: z.literal('chat'),
    messages: z.array(chatMessageSchema).min(1),
    /** Descriptions of tools for the template, in the form of OpenAI's `tools`. */
    tools: z.array(z.record(z.string(), z.unknown())).min(1).optional(),
    /** Introduces the tools where the template has no place for them. */
    toolPrompt: z.string().optional(),
    /** The chat template of the adapter's version, instead of the model's. Never taken from a public request. */
    template: z.string().min(1).max(limits.chatTemplateBytes).optional(),
    /** Ends the prompt where an answer of the assistant begins. */
    addGenerationPrompt: z.boolean(),
  }),
])
export type Prompt = z.infer<typeof promptSchema>

/** Body of a worker's `POST /v1/tokenize`. */
export const tokenizeRequestSchema = z.object({
  text: z.string(),
  /** With the tokens that the model's own tokenizer puts around a text. */
  addSpecial: z.boolean(),
})
export type TokenizeRequest = z.infer<typeof tokenizeRequestSchema>

/** One token of a text: `text` is the vocabulary's own spelling; `start` and `stop` count characters (code points) of the text. */
export const textTokenSchema = z.object({
  id: z.int().nonnegative(),
  text: z.string(),
  start: z.int().nonnegative(),
  stop: z.int().nonnegative(),
})
export type TextToken = z.infer<typeof textTokenSchema>

/** Answer of a worker's `POST /v1/tokenize`. */
export const tokenizeAnswerSchema = z.object({ tokens: z.array(textTokenSchema) })
