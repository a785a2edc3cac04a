/** Body of `POST /v1/embeddings`. */
import { limits, type Prompt, ServingError } from '@quiver/protocol'
import { z } from 'zod'
import type { GenerateParameters } from '../generate-schema.ts'
import { commonFields, parseFields, text, whole } from './fields.ts'

const empty = { error: 'must not be empty' }
const content = text.min(1, empty)
const token = z.int().nonnegative({ error: 'must be a token id' })
const listOf = <T extends z.ZodType>(one: T) => z.array(one).min(1, empty)
const tokens = listOf(token)

const { model, adapter_source, api_token } = commonFields
export const embeddingsSchema = z.object({
  model,
  input: z
    .union([content, listOf(content), tokens, listOf(tokens)], {
      error: 'must be a text, a list of texts, a list of token ids or a list of such lists, none of them empty',
    })
    .describe(`One text or up to ${limits.embeddingInputs}, as they are or as token ids.`),
  encoding_format: z
    .enum(['float', 'base64'], { error: 'must be `float` or `base64`' })
    .nullish()
    .describe('A list of numbers (the default), or float32 in little-endian order as base64.'),
  dimensions: whole.nullish().describe('Not supported: an embedding has as many numbers as the model has.'),
  user: text.nullish().describe('Accepted and not used.'),
  adapter_source,
  api_token,
})

export interface EmbeddingsRequest {
  readonly model: string
  /** Where the adapter is, and what opens it. */
  readonly parameters: Pick<GenerateParameters, 'adapter_source' | 'api_token'>
  readonly prompts: readonly Prompt[]
  readonly encoding: 'float' | 'base64'
}

/** @throws ServingError `invalid_parameters` */
export function parseEmbeddingsRequest(value: unknown): EmbeddingsRequest {
  const fields = parseFields(embeddingsSchema, value)
  if (fields.dimensions !== null && fields.dimensions !== undefined) {
    throw refused('dimensions', 'is not supported by this server: leave it out for as many as the model has')
  }
  const prompts = promptsOf(fields.input)
  if (prompts.length > limits.embeddingInputs) {
    throw refused('input', `must have at most ${limits.embeddingInputs} texts. Given: ${prompts.length}`)
  }
  return {
    model: fields.model ?? '',
    parameters: { adapter_source: fields.adapter_source, api_token: fields.api_token },
    prompts,
    encoding: fields.encoding_format ?? 'float',
  }
}

/** A list of numbers is one text in tokens. */
function promptsOf(input: z.infer<typeof embeddingsSchema>['input']): Prompt[] {
  if (typeof input === 'string') return [textPrompt(input)]
  const [first] = input
  if (typeof first === 'number') return [{ kind: 'tokens', ids: input as number[] }]
  return (input as (string | number[])[]).map((one) => (typeof one === 'string' ? textPrompt(one) : { kind: 'tokens', ids: one }))
}

function textPrompt(of: string): Prompt {
  return { kind: 'text', text: of.toWellFormed() }
}

function refused(field: string, why: string): ServingError {
  return new ServingError('invalid_parameters', `\`${field}\` ${why}`, { param: field })
}
