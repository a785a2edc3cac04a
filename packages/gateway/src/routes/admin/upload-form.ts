/** An adapter that is sent as a form: its files, and what is wished for it. */
import type { IncomingMessage } from 'node:http'
import { type ChatTemplateFileName, chatTemplateFiles, MAX_CONFIG_BYTES, readChatTemplate } from '@quiver/cache/format'
import { ServingError } from '@quiver/protocol'
import type { Files, UploadLimits } from '../../registration/adapter-registrar.ts'
import { parseAs, type UploadFields, uploadFieldsSchema } from './admin-schema.ts'
import { bodyChunks } from './body-chunks.ts'
import { GrowingBuffer } from './growing-buffer.ts'
import { multipartBoundary, type PartHeader, readMultipart } from './multipart.ts'

export const CONFIG_FILE = 'adapter_config.json'
export const WEIGHTS_FILE = 'adapter_model.safetensors'

const FIELD_BYTES = 32 * 1024
const FIELDS = new Set(Object.keys(uploadFieldsSchema.shape).filter((name) => name !== 'session' && name !== 'base'))
/** Boundaries and headers of all parts. */
const FRAME_BYTES = 64 * 1024

export interface UploadForm {
  readonly files: Files
  readonly fields: UploadFields
}

/**
 * Reads a form with `adapter_config.json`, `adapter_model.safetensors` and perhaps a template, each named so as its field or as its file.
 * No part is read beyond what it may have.
 * @throws ServingError `too_large`, `unsupported_media_type`, `invalid_request` (not a form), `invalid_parameters` (a part that is missing,
 * unknown or there twice), `adapter_invalid` (a template that is none), `client_closed`
 */
export async function readUploadForm(incoming: IncomingMessage, limits: UploadLimits, signal: AbortSignal): Promise<UploadForm> {
  const boundary = multipartBoundary(incoming.headers['content-type'])
  const sizes = fileSizes(limits)
  const parts = new Map<string, GrowingBuffer>()
  const total = [...sizes.values()].reduce((sum, bytes) => sum + bytes, FRAME_BYTES + FIELDS.size * FIELD_BYTES)
  await readMultipart(bodyChunks(incoming, total, signal), boundary, {
    part(header) {
      const name = partName(header, sizes)
      if (parts.has(name)) throw new ServingError('invalid_parameters', `\`${name}\` is there twice`)
      const buffer = new GrowingBuffer(sizes.get(name) ?? FIELD_BYTES, `\`${name}\``)
      parts.set(name, buffer)
      return (bytes) => buffer.append(bytes)
    },
  })
  const file = (name: string): Uint8Array<ArrayBuffer> => {
    const buffer = parts.get(name)
    if (buffer !== undefined) return buffer.bytes()
    throw new ServingError('invalid_parameters', `\`${name}\` is missing: an upload has ${CONFIG_FILE} and ${WEIGHTS_FILE}`)
  }
  const texts = [...parts].filter(([name]) => FIELDS.has(name)).map(([name, buffer]) => [name, textOf(name, buffer.bytes())])
  const fields = parseAs(uploadFieldsSchema, Object.fromEntries(texts))
  const templates: { [name in ChatTemplateFileName]?: Uint8Array } = {}
  for (const { name } of chatTemplateFiles) {
    const bytes = parts.get(name)?.bytes()
    if (bytes !== undefined) templates[name] = bytes
  }
  const chatTemplate = readChatTemplate(templates)
  return {
    fields,
    files: {
      config: file(CONFIG_FILE),
      weights: file(WEIGHTS_FILE),
      source: { type: 'upload' },
      ...(chatTemplate === undefined ? {} : { chatTemplate }),
    },
  }
}

/** One file as a whole body. @throws ServingError `too_large`, `unsupported_media_type`, `client_closed` */
export async function readFileBody(
  incoming: IncomingMessage,
  { name, maxBytes, signal }: { readonly name: string; readonly maxBytes: number; readonly signal: AbortSignal },
): Promise<Uint8Array<ArrayBuffer>> {
  const buffer = new GrowingBuffer(maxBytes, name)
  for await (const chunk of bodyChunks(incoming, maxBytes, signal)) buffer.append(chunk)
  return buffer.bytes()
}

function fileSizes({ maxWeightsBytes }: UploadLimits): ReadonlyMap<string, number> {
  return new Map([
    [CONFIG_FILE, MAX_CONFIG_BYTES],
    [WEIGHTS_FILE, maxWeightsBytes],
    ...chatTemplateFiles.map(({ name, maxBytes }) => [name, maxBytes] as const),
  ])
}

/** curl's `-F adapter_config.json=@…` names the field, a browser's list of files names the file. */
function partName({ name, filename }: PartHeader, sizes: ReadonlyMap<string, number>): string {
  if (sizes.has(name) || (FIELDS.has(name) && filename === undefined)) return name
  if (filename !== undefined && sizes.has(filename)) return filename
  const known = [...sizes.keys(), ...FIELDS].join(', ')
  throw new ServingError(
    'invalid_parameters',
    `${JSON.stringify(name.slice(0, 80))} is not a part of an upload: there are ${known}`,
  )
}

function textOf(name: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new ServingError('invalid_parameters', `\`${name}\` is not valid UTF-8`)
  }
}
