/** Body of `POST /v1/completions`. */
import { limits, ServingError } from '@quiver/protocol'
import { z } from 'zod'
import { type ApiRequest, commonRequest, generateParameters } from './api-request.ts'
import { choiceCount, commonFields, flag, parseFields, text, whole } from './fields.ts'

const MAX_LOGPROBS = 5

const prompt = text.min(1, { error: 'must not be empty' })
const completionSchema = z.object({
  ...commonFields,
  prompt: z.union([prompt, z.array(prompt).min(1)], { error: 'must be a string or a list of strings, none of them empty' }),
  best_of: choiceCount.nullish(),
  echo: flag.nullish(),
  logprobs: whole
    .min(0, { error: 'must not be negative' })
    .max(MAX_LOGPROBS, { error: `must be at most ${MAX_LOGPROBS}` })
    .nullish(),
  suffix: text.nullish(),
})

/** @throws ServingError `invalid_parameters` */
export function parseCompletionRequest(value: unknown): ApiRequest {
  const fields = parseFields(completionSchema, value)
  const common = commonRequest(fields)
  const prompts = typeof fields.prompt === 'string' ? [fields.prompt] : fields.prompt
  const runs = fields.best_of ?? common.choices
  if (runs < common.choices) throw refused('best_of', `must be at least \`n\`, which is ${common.choices}`)
  if (runs > common.choices && common.stream) throw refused('best_of', 'above `n` is not supported when streaming tokens')
  if (prompts.length * runs > limits.choices) {
    throw refused('prompt', `with ${prompts.length} texts and ${runs} answers each asks for more than ${limits.choices} runs`)
  }
  if (fields.suffix !== null && fields.suffix !== undefined && fields.suffix !== '') {
    throw refused('suffix', 'is not supported by this server')
  }
  return {
    ...common,
    kind: 'completion',
    prompts: prompts.map((one) => ({ kind: 'text', text: one.toWellFormed() })),
    runs,
    parameters: generateParameters(fields, fields.max_tokens),
    logprobs: fields.logprobs ?? undefined,
    echo: fields.echo ?? false,
  }
}

function refused(field: string, why: string): ServingError {
  return new ServingError('invalid_parameters', `\`${field}\` ${why}`, { param: field })
}
