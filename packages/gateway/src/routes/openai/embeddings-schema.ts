/** Body of `POST /v1/embeddings`. */
import { limits, type Prompt, ServingError } from '@quiver/protocol'
import { z } from 'zod'
import type { GenerateParameters } from '../generate-schema.ts'
import { commonFields, parseFields, text, whole } from './fields.ts'

const empty = { error: 'must not be empty' }
const content = text.min(1, empty)
const notToken = { error: 'must be a token id' }
const token = z.int(notToken).nonnegative(notToken)
const tokens = z.array(token, { error: 'must be a list of token ids' }).min(1, empty)
const forms = { text: content, texts: z.array(content).min(1, empty), tokens, lists: z.array(tokens).min(1, empty) }

const { model, adapter_source, api_token } = commonFields
export const embeddingsSchema = z.object({
  model,
  input: z
    .union([forms.text, forms.texts, forms.tokens, forms.lists], {
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

const byForm = {
  texts: embeddingsSchema.extend({ input: forms.texts }),
  tokens: embeddingsSchema.extend({ input: forms.tokens }),
  lists: embeddingsSchema.extend({ input: forms.lists }),
}

export interface EmbeddingsRequest {
  readonly model: string
  /** Where the adapter is, and what opens it. */
  readonly parameters: Pick<GenerateParameters, 'adapter_source' | 'api_token'>
  readonly prompts: readonly Prompt[]
  readonly encoding: 'float' | 'base64'
}

/** @throws ServingError `invalid_parameters` */
export function parseEmbeddingsRequest(value: unknown): EmbeddingsRequest {
  const count = textCount(value)
  if (count > limits.embeddingInputs) {
    throw refused('input', `must have at most ${limits.embeddingInputs} texts. Given: ${count}`)
  }
  const fields = parseFields<z.infer<typeof embeddingsSchema>>(schemaFor(value), value)
  if (fields.dimensions !== null && fields.dimensions !== undefined) {
    throw refused('dimensions', 'is not supported by this server: leave it out for as many as the model has')
  }
  return {
    model: fields.model ?? '',
    parameters: { adapter_source: fields.adapter_source, api_token: fields.api_token },
    prompts: promptsOf(fields.input),
    encoding: fields.encoding_format ?? 'float',
  }
}

/** The `input` of a body, of which nothing is known yet. */
function inputOf(value: unknown): unknown {
  return typeof value === 'object' && value !== null && 'input' in value ? value.input : undefined
}

/** Bounds a list before each of its values is looked at. */
function textCount(value: unknown): number {
  const input = inputOf(value)
  return Array.isArray(input) && typeof input[0] !== 'number' ? input.length : 1
}

/**
 * The first value of a list says which form it must have: trying all of them on twenty thousand values, and noting each that does
 * not fit, takes a tenth of a second.
 */
function schemaFor(value: unknown): z.ZodType<z.infer<typeof embeddingsSchema>> {
  const input = inputOf(value)
  if (!Array.isArray(input) || input.length === 0) return embeddingsSchema
  const [first] = input
  if (typeof first === 'number') return byForm.tokens
  return Array.isArray(first) ? byForm.lists : byForm.texts
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
