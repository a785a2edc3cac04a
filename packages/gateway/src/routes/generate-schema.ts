/**
 * The body of the LoRAX routes. What is wrong in type is refused here, all other rules are in generate-checks.ts.
 * Unknown fields are ignored and null means absent, because released clients send every field they know.
 */
import { ServingError } from '@quiver/protocol'
import { z } from 'zod'
import { mergedAdaptersSchema } from './merged-adapters.ts'
import { responseFormatSchema, tgiGrammarSchema } from './structured-output.ts'

const I32_MAX = 2 ** 31 - 1

const text = z.string({ error: 'must be a string' })
const flag = z.boolean({ error: 'must be true or false' })
const real = z.number({ error: 'must be a finite number' })
const unsigned = z
  .int({ error: 'must be a whole number, not negative' })
  .nonnegative({ error: 'must be a whole number, not negative' })
const signed32 = z
  .int({ error: 'must be a whole number' })
  .min(-I32_MAX - 1, { error: 'must fit into 32 bits' })
  .max(I32_MAX, { error: 'must fit into 32 bits' })

export const parametersSchema = z.object(
  {
    adapter_id: text.nullish(),
    adapter_source: text.nullish(),
    merged_adapters: mergedAdaptersSchema.nullish(),
    api_token: text.nullish(),
    best_of: unsigned.nullish(),
    temperature: real.nullish(),
    repetition_penalty: real.nullish(),
    frequency_penalty: real.nullish(),
    presence_penalty: real.nullish(),
    top_k: signed32.nullish(),
    top_p: real.nullish(),
    typical_p: real.nullish(),
    do_sample: flag.nullish(),
    max_new_tokens: unsigned.nullish(),
    ignore_eos_token: flag.nullish(),
    return_full_text: flag.nullish(),
    stop: z.union([text, z.array(text)], { error: 'must be a string or a list of strings' }).nullish(),
    truncate: unsigned.nullish(),
    watermark: flag.nullish(),
    details: flag.nullish(),
    decoder_input_details: flag.nullish(),
    // Read as a number only to see its kind; its digits come from the text of the body (seed-text.ts).
    seed: real.nullish(),
    return_k_alternatives: signed32.nullish(),
    top_n_tokens: unsigned.nullish(),
    apply_chat_template: flag.nullish(),
    response_format: responseFormatSchema.nullish(),
    grammar: tgiGrammarSchema.nullish(),
  },
  { error: 'must be an object' },
)
export type GenerateParameters = z.infer<typeof parametersSchema>

const bodySchema = z.object(
  {
    inputs: z.string({ error: 'must be a string' }),
    parameters: parametersSchema.nullish(),
    stream: flag.nullish(),
  },
  { error: 'the body must be a JSON object' },
)

export interface GenerateBody {
  readonly inputs: string
  readonly parameters: GenerateParameters
  readonly stream: boolean
}

/**
 * @param value a parsed JSON body
 * @throws ServingError `invalid_parameters` naming the first field of a wrong type
 * @example parseGenerateBody({ inputs: 'Hello', parameters: { top_k: null } })
 */
export function parseGenerateBody(value: unknown): GenerateBody {
  const parsed = bodySchema.safeParse(value)
  if (parsed.success) {
    const { inputs, parameters, stream } = parsed.data
    return { inputs, parameters: parameters ?? {}, stream: stream ?? false }
  }
  const issue = parsed.error.issues[0]
  const field = issue?.path.find((part) => part !== 'parameters') ?? issue?.path.at(-1)
  const rule = issue?.message ?? 'is not valid'
  throw new ServingError('invalid_parameters', field === undefined ? rule : `\`${String(field)}\` ${rule}`)
}
