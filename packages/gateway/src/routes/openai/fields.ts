/** Fields that both bodies of the `/v1` routes have. Null means absent and unknown fields are ignored, as on the LoRAX routes. */
import { limits, ServingError } from '@quiver/protocol'
import { z } from 'zod'

export const text = z.string({ error: 'must be a string' })
export const flag = z.boolean({ error: 'must be true or false' })
const real = z.number({ error: 'must be a finite number' })
const whole = z.int({ error: 'must be a whole number' })
const positive = whole.positive({ error: 'must be strictly positive' })

/** Choices of one request, and runs that they are taken from. */
const choiceCount = positive.max(limits.choices, { error: `must be at most ${limits.choices}` })

export const stopField = z.union([text, z.array(text)], { error: 'must be a string or a list of strings' })

export const commonFields = {
  model: text
    .nullish()
    .describe('The base model or an adapter: `name`, `name@3`, `name@sha256:…`. Empty, `dummy` and `tgi` mean the base model.'),
  temperature: real.nullish().describe('0 is greedy; 1 without it.'),
  top_p: real.nullish().describe('Samples among the likeliest tokens that have this share of the probability together.'),
  n: choiceCount.nullish().describe('Answers to each prompt.'),
  max_tokens: positive.nullish().describe('The most tokens to generate. Without it, as many as there is room for.'),
  stop: stopField.nullish().describe('Texts that end the answer; they are not in it.'),
  stream: flag.nullish().describe('Answers with events, the last of them `[DONE]`.'),
  stream_options: z
    .object({ include_usage: flag.nullish().describe('Counts the tokens in a last chunk.') }, { error: 'must be an object' })
    .nullish(),
  presence_penalty: real.nullish().describe('From -2 to 2, for a token that came before at all.'),
  frequency_penalty: real.nullish().describe('From -2 to 2, for each time that a token came before.'),
  // Its digits come from the text of the body (seed-text.ts).
  seed: real.nullish().describe('A whole number of up to 64 bits; the same one gives the same answers.'),
  logit_bias: z
    .record(
      z.string().regex(/^(0|[1-9][0-9]{0,8})$/, { error: 'must have token ids as keys' }),
      real.min(-100, { error: 'must be from -100 to 100' }).max(100, { error: 'must be from -100 to 100' }),
      { error: 'must be an object' },
    )
    .refine((biases) => Object.keys(biases).length <= limits.logitBiases, {
      error: `must name at most ${limits.logitBiases} tokens`,
    })
    .nullish()
    .describe('What to add to the logits of tokens, by their ids.'),
  user: text
    .nullish()
    .describe('Whose request it is, for you to say: of an adapter with a canary, the same user always gets the same version.'),
  // vLLM's.
  cache_salt: text
    .min(1, { error: 'must not be empty' })
    .max(limits.cacheSaltCharacters, { error: `must have at most ${limits.cacheSaltCharacters} characters` })
    .nullish()
    .describe('Shares what is computed of the prompt only with requests that name the same salt.'),
  // LoRAX's own.
  top_k: whole.nullish().describe('Samples among this many of the likeliest tokens.'),
  typical_p: real.nullish().describe('Typical sampling: above 0 and below 1.'),
  repetition_penalty: real.nullish().describe('Above 1, tokens that came before become less likely. Must be positive.'),
  ignore_eos_token: flag.nullish().describe('Goes on after the model says that it has ended.'),
  adapter_source: text
    .nullish()
    .describe('Where the adapter that `model` names is: `store` (the default), `hub`, `s3` or `local`.'),
  api_token: text.nullish().describe('Token with which an adapter of the hub is read; without one, that of the server.'),
} as const
export type CommonFields = z.infer<z.ZodObject<typeof commonFields>>

export { choiceCount, positive, real, whole }

/** @throws ServingError `invalid_parameters` naming the first field that is not as it must be */
export function parseFields<T>(schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  const field = (issue?.path ?? []).reduce<string>(
    (path, part) => (typeof part === 'number' ? `${path}[${part}]` : path === '' ? String(part) : `${path}.${String(part)}`),
    '',
  )
  const rule = issue?.message ?? 'is not valid'
  if (field === '') throw new ServingError('invalid_parameters', 'the body must be a JSON object')
  throw new ServingError('invalid_parameters', `\`${field}\` ${rule}`, { param: field })
}
