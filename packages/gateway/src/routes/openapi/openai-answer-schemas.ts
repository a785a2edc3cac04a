/** What `/v1/completions`, `/v1/chat/completions` and `/v1/embeddings` answer, as schemas for the OpenAPI document. */
import { z } from 'zod'

const count = z.int().nonnegative()
const finish = z.enum(['length', 'stop'])
const chatFinish = z.enum(['length', 'stop', 'tool_calls'])

const toolCall = {
  id: z.string().describe('Nine letters and digits; the result of the call names it.'),
  type: z.literal('function'),
  function: z.object({ name: z.string(), arguments: z.string().describe('JSON text.') }),
}

const usage = z.object({
  prompt_tokens: count,
  completion_tokens: count,
  total_tokens: count,
  prompt_tokens_details: z.object({
    cached_tokens: count.describe('Prompt tokens that an earlier request of the tenant had computed already.'),
  }),
})
const streamUsage = usage.nullish().describe('With `stream_options.include_usage`: null but in the last chunk.')

const head = { id: z.string(), created: count.describe('Seconds since 1970.'), model: z.string(), system_fingerprint: z.string() }

const chatLogprob = {
  token: z.string(),
  logprob: z.number(),
  bytes: z.array(count).nullable().describe('UTF-8; null where the token is a part of a character.'),
}
const chatLogprobs = z
  .object({
    content: z.array(z.object({ ...chatLogprob, top_logprobs: z.array(z.object(chatLogprob)) })),
    refusal: z.null(),
  })
  .nullable()
  .describe('With `logprobs`.')
const completionLogprobs = z
  .object({
    tokens: z.array(z.string()),
    token_logprobs: z.array(z.number().nullable()),
    top_logprobs: z.array(z.record(z.string(), z.number()).nullable()),
    text_offset: z.array(count),
  })
  .nullable()
  .describe('With `logprobs`.')

export const chatAnswer = z.object({
  ...head,
  object: z.literal('chat.completion'),
  choices: z.array(
    z.object({
      index: count,
      message: z.object({
        role: z.literal('assistant'),
        content: z.string().nullable().describe('Null where there are only calls.'),
        refusal: z.null(),
        tool_calls: z.array(z.object(toolCall)).optional(),
      }),
      logprobs: chatLogprobs,
      finish_reason: chatFinish,
    }),
  ),
  usage,
})

export const chatChunk = z.object({
  ...head,
  object: z.literal('chat.completion.chunk'),
  choices: z.array(
    z.object({
      index: count,
      delta: z.object({
        role: z.literal('assistant').optional().describe('In the first chunk of a choice.'),
        content: z.string().nullish(),
        refusal: z.null().optional(),
        tool_calls: z
          .array(
            z.object({
              index: count,
              id: toolCall.id.optional(),
              type: toolCall.type.optional(),
              function: z.object({ name: z.string().optional(), arguments: z.string() }),
            }),
          )
          .optional()
          .describe('First with id and name, then with more of the arguments.'),
      }),
      logprobs: chatLogprobs,
      finish_reason: chatFinish.nullable(),
    }),
  ),
  usage: streamUsage,
})

const textChoice = { index: count, text: z.string(), logprobs: completionLogprobs }

export const completionAnswer = z.object({
  ...head,
  object: z.literal('text_completion'),
  choices: z.array(z.object({ ...textChoice, finish_reason: finish })),
  usage,
})

export const completionChunk = z.object({
  ...head,
  object: z.literal('text_completion'),
  choices: z.array(z.object({ ...textChoice, finish_reason: finish.nullable() })),
  usage: streamUsage,
})

export const embeddingsAnswer = z.object({
  object: z.literal('list'),
  data: z.array(
    z.object({
      object: z.literal('embedding'),
      index: count,
      embedding: z
        .union([z.array(z.number()), z.string()])
        .describe(
          'As many numbers as the model has dimensions; with `encoding_format` `base64` their float32 bytes, little-endian.',
        ),
    }),
  ),
  model: z.string(),
  usage: z.object({ prompt_tokens: count, total_tokens: count }),
})
