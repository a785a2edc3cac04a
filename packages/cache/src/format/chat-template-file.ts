/** The chat template that trainers save beside an adapter. */
import { limits } from '@quiver/protocol'
import { adapterInvalid } from './adapter-problem.ts'
import { decodeUtf8, describeJson, isJsonArray, isJsonObject, type JsonValue, readJson } from './json-reader.ts'

/** Names of the files that a template is read from, the first one there first, and the most bytes of each that are read. */
export const chatTemplateFiles = [
  { name: 'chat_template.jinja', maxBytes: limits.chatTemplateBytes },
  { name: 'tokenizer_config.json', maxBytes: 4 * 1024 * 1024 },
] as const
export type ChatTemplateFileName = (typeof chatTemplateFiles)[number]['name']

/**
 * The template of an adapter, as transformers reads it: `chat_template.jinja` where it is there, else `chat_template` of
 * `tokenizer_config.json`: a text, or of a list of named ones the one named `default`. It is only read here, never run.
 * @param files the bytes of those that are there
 * @returns undefined where there is none: no file, no such field, or an empty text
 * @throws ServingError `adapter_invalid` for a template of more than `limits.chatTemplateBytes` bytes, one that is no text, and a file
 * that cannot be read
 * @example readChatTemplate({ 'chat_template.jinja': await readFile('chat_template.jinja') })
 */
export function readChatTemplate(
  files: { readonly [name in ChatTemplateFileName]?: Uint8Array | undefined },
): string | undefined {
  for (const { name, maxBytes } of chatTemplateFiles) {
    const size = files[name]?.length ?? 0
    if (size > maxBytes) throw adapterInvalid(`${name} has ${size} bytes, more than ${maxBytes}`)
  }
  const { 'chat_template.jinja': jinja, 'tokenizer_config.json': config } = files
  if (jinja !== undefined) return textOf(decodeUtf8(jinja, 'chat_template.jinja'), 'chat_template.jinja')
  if (config === undefined) return undefined
  const fields = readJson(decodeUtf8(config, 'tokenizer_config.json'), 'tokenizer_config.json')
  if (!isJsonObject(fields)) throw adapterInvalid(`tokenizer_config.json is ${describeJson(fields)}, not an object`)
  const template = fields.get('chat_template')
  return textOf(isJsonArray(template) ? defaultOf(template) : template, 'chat_template of tokenizer_config.json')
}

function defaultOf(named: readonly JsonValue[]): JsonValue | undefined {
  const found = named.find((one) => isJsonObject(one) && one.get('name') === 'default')
  return found === undefined || !isJsonObject(found) ? undefined : found.get('template')
}

function textOf(value: JsonValue | undefined, where: string): string | undefined {
  if (value === undefined || value === null || value === '') return undefined
  if (typeof value !== 'string') throw adapterInvalid(`${where} is ${describeJson(value)}, not a text`)
  const bytes = Buffer.byteLength(value)
  if (bytes > limits.chatTemplateBytes) throw adapterInvalid(`${where} has ${bytes} bytes, more than ${limits.chatTemplateBytes}`)
  return value
}
