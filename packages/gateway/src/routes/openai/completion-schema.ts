/** Body of `POST /v1/completions`. */
import { limits, ServingError } from '@quiver/protocol'
import { z } from 'zod'
import { type ApiRequest, commonRequest, generateParameters } from './api-request.ts'
import { choiceCount, commonFields, flag, parseFields, text, whole } from './fields.ts'

const MAX_LOGPROBS = 5

const prompt = text.min(1, { error: 'must not be empty' })
export const completionSchema = z.object({
  ...commonFields,
  prompt: z
    .union([prompt, z.array(prompt).min(1)], { error: 'must be a string or a list of strings, none of them empty' })
    .describe('One text, or several that are answered each.'),
  best_of: choiceCount.nullish().describe('Runs each prompt this many times and answers with the `n` likeliest.'),
  echo: flag.nullish().describe('Begins the text with the prompt.'),
  logprobs: whole
    .min(0, { error: 'must not be negative' })
    .max(MAX_LOGPROBS, { error: `must be at most ${MAX_LOGPROBS}` })
    .nullish()
    .describe('The log-probability of each token and of this many of the likeliest.'),
  suffix: text.nullish().describe('Not supported: anything but an empty text is refused.'),
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
