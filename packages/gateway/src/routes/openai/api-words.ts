import { ServingError, toServingError } from '@quiver/protocol'
import type { ApiRequest } from './api-request.ts'

/** What the rules of the LoRAX routes, which hold here too, call what these routes call otherwise. */
const apiNames = (kind: ApiRequest['kind']): Readonly<Record<string, string>> => ({
  inputs: kind === 'chat' ? 'messages' : 'prompt',
  max_new_tokens: 'max_tokens',
  adapter_id: 'model',
})

/**
 * A refusal in the words of OpenAI's clients, with the field that it is about as `param`. Everything else is as it was.
 * @example inApiWords(new ServingError('invalid_parameters', '`top_k` must be strictly positive'), 'chat').context.param // 'top_k'
 */
export function inApiWords(thrown: unknown, kind: ApiRequest['kind']): ServingError {
  const error = toServingError(thrown)
  if (error.code !== 'invalid_parameters' || error.context['param'] !== undefined) return error
  const names = apiNames(kind)
  const message = error.message.replace(/`([a-z_]+)`/g, (all, name: string) =>
    names[name] === undefined ? all : `\`${names[name]}\``,
  )
  const param = /^`([a-z_]+)`/.exec(message)?.[1]
  return new ServingError(
    error.code,
    message,
    { ...error.context, ...(param === undefined ? {} : { param }) },
    { cause: error.cause },
  )
}
