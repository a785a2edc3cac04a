/** What the routes answer, as schemas for the OpenAPI document. A test holds real answers against every one of them. */
import { errorCodes, finishReasons } from '@quiver/protocol'
import { z } from 'zod'

const count = z.int().nonnegative()

const token = z.object({
  id: count,
  text: z.string(),
  logprob: z.number().describe('Its natural log-probability, from the temperature and penalties that were asked for.'),
  special: z.boolean().describe('Whether the token is a mark of the model and no text.'),
  alternative_tokens: z
    .array(z.object({ id: count, text: z.string(), logprob: z.number() }))
    .optional()
    .describe('With `return_k_alternatives`.'),
  skipped: z.boolean().describe('Whether it had been guessed, so that it took no step of its own.'),
})
const topTokens = z.array(z.object({ id: count, text: z.string(), logprob: z.number(), special: z.boolean() }))

const sequence = {
  finish_reason: z.enum(finishReasons),
  generated_tokens: count,
  seed: z.number().nullable().describe('A whole number of up to 64 bits; null when nothing was sampled.'),
  prefill: z
    .array(z.object({ id: count, text: z.string(), logprob: z.number().nullable() }))
    .describe('With `decoder_input_details`: the tokens of the prompt.'),
  tokens: z.array(token),
  top_tokens: z.array(topTokens).optional().describe('With `top_n_tokens`: the likeliest tokens at each place.'),
}

export const generateAnswer = z.object({
  generated_text: z.string(),
  details: z
    .object({
      ...sequence,
      prompt_tokens: count,
      skipped_tokens: count.describe('Of the generated tokens, those that had been guessed and took no step of their own.'),
      best_of_sequences: z
        .array(z.object({ ...sequence, generated_text: z.string() }))
        .optional()
        .describe('With `best_of`: the runs that were not the best.'),
    })
    .optional()
    .describe('With `details` or `decoder_input_details`.'),
})

export const generateEvent = z.object({
  token,
  top_tokens: topTokens.optional(),
  generated_text: z.string().nullable().describe('The whole text, in the last event.'),
  details: z
    .object({
      finish_reason: z.enum(finishReasons),
      prompt_tokens: count,
      generated_tokens: count,
      seed: sequence.seed,
    })
    .nullable()
    .describe('In the last event, with `details`.'),
})

export const tokenizeAnswer = z.array(
  z.object({ id: count, text: z.string(), start: count, stop: count }).describe('Places are counted in characters.'),
)

export const embedAnswer = z.object({ embeddings: z.array(z.number()).describe('As many as the hidden state has.') })

export const loraxError = z.object({ error: z.string(), error_type: z.string() })

export const serverInfo = z.object({
  model_id: z.string(),
  model_sha: z.string(),
  model_dtype: z.string(),
  model_device_type: z.string(),
  model_pipeline_tag: z.literal('text-generation'),
  max_concurrent_requests: count,
  max_best_of: count,
  max_stop_sequences: count,
  max_input_length: count,
  max_total_tokens: count,
  waiting_served_ratio: z.number(),
  max_batch_total_tokens: count,
  max_waiting_tokens: count,
  validation_workers: count,
  eager_prefill: z.boolean(),
  version: z.string(),
  sha: z.string().nullable(),
  docker_label: z.string().nullable(),
  request_logger_url: z.string().nullable(),
  engine: z.object({ kind: z.string(), device: z.string(), lora: z.string() }),
  adapter_slots: count,
  adapter_max_rank: count,
})

export const openaiError = z.object({
  error: z.object({
    message: z.string(),
    type: z.string(),
    code: z.enum(errorCodes),
    param: z.string().nullable().describe('The field that was wrong.'),
  }),
  error_type: z.string().describe('The same as on the LoRAX routes.'),
})

export const modelCard = z.object({
  id: z.string(),
  object: z.literal('model'),
  created: count.describe('Seconds since 1970.'),
  owned_by: z.literal('quiver'),
  root: z.string().describe('Of an adapter, the very version that its name means now.'),
  parent: z.string().nullable().describe('The base model of an adapter.'),
})
export const modelList = z.object({ object: z.literal('list'), data: z.array(modelCard) })
