/** Body of `POST /v1/chat/completions`. */
import { type ChatMessage, limits, ServingError } from '@quiver/protocol'
import { z } from 'zod'
import { requireModestJson } from '../json-shape.ts'
import { responseFormatSchema } from '../structured-output.ts'
import { type ApiRequest, commonRequest, generateParameters } from './api-request.ts'
import { commonFields, flag, parseFields, positive, text, whole } from './fields.ts'
import { toolFields, toolUseOf } from './tools/tool-fields.ts'

const MAX_TOP_LOGPROBS = 20

const part = z.looseObject({ type: text, text: text.optional() }, { error: 'must be an object with a type' })
const content = z.union([text, z.array(part)], { error: 'must be a string or a list of parts' })
const toolCall = z.looseObject({
  function: z.looseObject({ name: text, arguments: z.unknown() }, { error: 'must be an object' }),
})
const message = z.object(
  {
    role: text.min(1, { error: 'must not be empty' }),
    content: content.nullish(),
    name: text.nullish(),
    tool_calls: z.array(toolCall, { error: 'must be a list' }).nullish(),
    tool_call_id: text.nullish(),
  },
  { error: 'must be an object' },
)

export const chatSchema = z.object({
  ...commonFields,
  messages: z
    .array(message, { error: 'must be a list of messages' })
    .min(1, { error: 'must not be empty' })
    .describe('The conversation.'),
  max_completion_tokens: positive.nullish().describe('The newer word for `max_tokens`, and the stronger of the two.'),
  logprobs: flag.nullish().describe('Answers with the log-probability of each token.'),
  top_logprobs: whole
    .min(0, { error: 'must not be negative' })
    .max(MAX_TOP_LOGPROBS, { error: `must be at most ${MAX_TOP_LOGPROBS}` })
    .nullish()
    .describe('This many of the likeliest tokens beside each one; needs `logprobs`.'),
  response_format: responseFormatSchema.nullish().describe('The form that the answer must have.'),
  ...toolFields,
})

/** @throws ServingError `invalid_parameters`, `tool_error`, `invalid_request` for arguments of calls that hold too much */
export function parseChatRequest(value: unknown): ApiRequest {
  const fields = parseFields(chatSchema, value)
  const common = commonRequest(fields)
  const toolUse = toolUseOf(fields)
  requireModestArguments(fields.messages)
  const top = fields.top_logprobs ?? 0
  if (top > 0 && fields.logprobs !== true) throw refused('top_logprobs', 'needs `logprobs` to be true')
  return {
    ...common,
    kind: 'chat',
    prompts: [
      {
        kind: 'chat',
        messages: fields.messages.map(toChatMessage),
        ...toolUse?.prompt,
        addGenerationPrompt: true,
      },
    ],
    runs: common.choices,
    parameters: {
      ...generateParameters(fields, fields.max_completion_tokens ?? fields.max_tokens),
      ...(fields.response_format === undefined ? {} : { response_format: fields.response_format }),
    },
    logprobs: fields.logprobs === true ? Math.min(top, limits.alternativeTokens) : undefined,
    toolUse,
    echo: false,
  }
}

function toChatMessage(given: z.infer<typeof message>, index: number): ChatMessage {
  const { role, name, tool_calls: calls, tool_call_id: callId } = given
  return {
    // OpenAI's newer word for the same; templates know the older one.
    role: role === 'developer' ? 'system' : role,
    content: contentText(given.content, index),
    ...(name === null || name === undefined ? {} : { name }),
    ...(callId === null || callId === undefined ? {} : { tool_call_id: callId }),
    ...(calls === null || calls === undefined ? {} : { tool_calls: calls.map(withParsedArguments) }),
  }
}

function contentText(given: z.infer<typeof content> | null | undefined, index: number): string | null {
  if (given === null || given === undefined) return null
  if (typeof given === 'string') return given.toWellFormed()
  const texts = given.map(({ type, text: partText }, at) => {
    const field = `messages[${index}].content[${at}]`
    if (type !== 'text') throw refused(field, `has the type ${JSON.stringify(type.slice(0, 40))}: this model reads only text`)
    if (partText === undefined) throw refused(field, 'must have a text')
    return partText
  })
  return texts.join('').toWellFormed()
}

/** The JSON within the body's strings has the bounds of the body's own, all of it together. */
function requireModestArguments(messages: readonly z.infer<typeof message>[]): void {
  let values = 0
  for (const { function: called } of messages.flatMap(({ tool_calls: calls }) => calls ?? [])) {
    if (typeof called.arguments === 'string') values = requireModestJson(called.arguments, values)
  }
}

/** OpenAI has the arguments of a call as JSON text, templates want the object. */
function withParsedArguments(call: z.infer<typeof toolCall>): object {
  const given = call.function.arguments
  if (typeof given !== 'string') return call
  try {
    return { ...call, function: { ...call.function, arguments: JSON.parse(given) as unknown } }
  } catch {
    // A model may have written something else; the template then shows it as it is.
    return call
  }
}

function refused(field: string, why: string): ServingError {
  return new ServingError('invalid_parameters', `\`${field}\` ${why}`, { param: field })
}
