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
    adapter_id: text
      .nullish()
      .describe(
        'An adapter of this server: `name`, `name@latest`, `name@3` or `name@sha256:…`; of the hub: `org/name` or `org/name@revision`; in S3: `s3://bucket/path`. Without one, the base model.',
      ),
    adapter_source: text
      .nullish()
      .describe(
        'Where the adapter is: `store` (this server, the default), `hub` (Hugging Face), `s3` (an allowed bucket) or `local` (a folder on the server).',
      ),
    merged_adapters: mergedAdaptersSchema.nullish().describe('Several adapters as one, instead of `adapter_id`.'),
    api_token: text.nullish().describe('Token with which an adapter of the hub is read; without one, that of the server.'),
    best_of: unsigned.nullish().describe('Runs the request this many times and answers with the likeliest: 1 or 2.'),
    temperature: real.nullish().describe('0 is greedy; any other value than 1 makes the request sample.'),
    repetition_penalty: real.nullish().describe('Above 1, tokens that came before become less likely. Must be positive.'),
    frequency_penalty: real.nullish().describe('From -2 to 2, for each time that a token came before.'),
    presence_penalty: real.nullish().describe('From -2 to 2, for a token that came before at all.'),
    top_k: signed32.nullish().describe('Samples among this many of the likeliest tokens.'),
    top_p: real.nullish().describe('Samples among the likeliest tokens that have this share of the probability together.'),
    typical_p: real.nullish().describe('Typical sampling: above 0 and below 1.'),
    do_sample: flag.nullish().describe('Samples even where no parameter asks for it.'),
    max_new_tokens: unsigned.nullish().describe('The most tokens to generate. Without it, as many as there is room for.'),
    ignore_eos_token: flag.nullish().describe('Goes on after the model says that it has ended.'),
    return_full_text: flag.nullish().describe('Begins the text with the prompt.'),
    stop: z
      .union([text, z.array(text)], { error: 'must be a string or a list of strings' })
      .nullish()
      .describe('Texts that end the answer; they stay in it.'),
    truncate: unsigned.nullish().describe('Keeps only this many of the last tokens of the prompt.'),
    watermark: flag.nullish().describe('Marks the text so that its origin can be told from it.'),
    details: flag.nullish().describe('Answers with tokens, counts and the seed.'),
    decoder_input_details: flag.nullish().describe('Answers with the tokens of the prompt; not in a stream.'),
    // Read as a number only to see its kind; its digits come from the text of the body (seed-text.ts).
    seed: real.nullish().describe('A whole number of up to 64 bits; the same one gives the same text.'),
    return_k_alternatives: signed32.nullish().describe('This many of the likeliest tokens beside each one, at most 32.'),
    top_n_tokens: unsigned.nullish().describe('The same as TGI answers it, in `top_tokens`; at most 32.'),
    apply_chat_template: flag
      .nullish()
      .describe('Takes `inputs` as the message of a user and renders it with the chat template of the adapter or the model.'),
    response_format: responseFormatSchema.nullish().describe('The form that the answer must have.'),
    grammar: tgiGrammarSchema.nullish().describe('The same in the words of TGI; at most one of the two.'),
  },
  { error: 'must be an object' },
)
export type GenerateParameters = z.infer<typeof parametersSchema>

export const generateBodySchema = z.object(
  {
    inputs: z.string({ error: 'must be a string' }).describe('The prompt.'),
    parameters: parametersSchema.nullish().describe('How to generate.'),
    stream: flag.nullish().describe('Read by `/` and `/invocations`: whether to answer with a stream.'),
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
  const parsed = generateBodySchema.safeParse(value)
  if (parsed.success) {
    const { inputs, parameters, stream } = parsed.data
    return { inputs, parameters: parameters ?? {}, stream: stream ?? false }
  }
  const issue = parsed.error.issues[0]
  const field = issue?.path.find((part) => part !== 'parameters') ?? issue?.path.at(-1)
  const rule = issue?.message ?? 'is not valid'
  throw new ServingError('invalid_parameters', field === undefined ? rule : `\`${String(field)}\` ${rule}`)
}
