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
  model: text.nullish(),
  temperature: real.nullish(),
  top_p: real.nullish(),
  n: choiceCount.nullish(),
  max_tokens: positive.nullish(),
  stop: stopField.nullish(),
  stream: flag.nullish(),
  stream_options: z.object({ include_usage: flag.nullish() }, { error: 'must be an object' }).nullish(),
  presence_penalty: real.nullish(),
  frequency_penalty: real.nullish(),
  // Its digits come from the text of the body (seed-text.ts).
  seed: real.nullish(),
  logit_bias: z
    .record(
      z.string().regex(/^(0|[1-9][0-9]{0,8})$/, { error: 'must have token ids as keys' }),
      real.min(-100, { error: 'must be from -100 to 100' }).max(100, { error: 'must be from -100 to 100' }),
      { error: 'must be an object' },
    )
    .refine((biases) => Object.keys(biases).length <= limits.logitBiases, {
      error: `must name at most ${limits.logitBiases} tokens`,
    })
    .nullish(),
  // LoRAX's own.
  top_k: whole.nullish(),
  typical_p: real.nullish(),
  repetition_penalty: real.nullish(),
  ignore_eos_token: flag.nullish(),
  adapter_source: text.nullish(),
  api_token: text.nullish(),
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
