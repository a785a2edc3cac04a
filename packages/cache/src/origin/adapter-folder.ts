/** The files of an adapter's folder, wherever the folder is, and what is said when they are not as they must be. */
import { limits, ServingError } from '@quiver/protocol'
import { MAX_CONFIG_BYTES } from '../format/adapter-config.ts'
import { adapterInvalid } from '../format/adapter-problem.ts'
import type { OriginLimits } from './origin.ts'

/** The only files that are ever read, beside the chat template. */
export const adapterFileNames = {
  config: 'adapter_config.json',
  weights: 'adapter_model.safetensors',
  chatTemplate: 'chat_template.jinja',
} as const

/** Looked for by name alone, to say why there are no weights; never opened. */
export const otherWeightsNames = { pickle: 'adapter_model.bin', shards: 'adapter_model.safetensors.index.json' } as const

/** As many bytes as a run may carry characters, so that what is registered can be sent. */
export const MAX_CHAT_TEMPLATE_BYTES = limits.chatTemplateBytes

/**
 * Why an adapter without one of its two files is refused.
 * @param said where it is, as the client wrote it, quoted
 */
export function incomplete(
  { config, weights, pickle, shards }: Readonly<Record<'config' | 'weights' | 'pickle' | 'shards', boolean>>,
  said: string,
): ServingError {
  if (weights && !config) return adapterInvalid(`${adapterFileNames.config} is missing at ${said}`)
  if (pickle) {
    return adapterInvalid(
      `${said} has ${otherWeightsNames.pickle}, a pickle, which is never opened: save the adapter as safetensors`,
    )
  }
  if (shards) return adapterInvalid(`${said} is split into several files: save the adapter as one ${adapterFileNames.weights}`)
  if (config) return adapterInvalid(`${adapterFileNames.weights} is missing at ${said}`)
  return new ServingError('adapter_not_found', `there is no adapter at ${said}`)
}

/** @throws ServingError `too_large` naming the file, before a byte of it is read */
export function checkSizes(
  bytes: { readonly config: number; readonly weights: number },
  { maxWeightsBytes }: OriginLimits,
  said: string,
): void {
  const sizes = [
    [adapterFileNames.config, bytes.config, MAX_CONFIG_BYTES],
    [adapterFileNames.weights, bytes.weights, maxWeightsBytes],
  ] as const
  for (const [name, size, most] of sizes) {
    if (size > most) throw new ServingError('too_large', `${name} at ${said} has ${size} bytes; at most ${most} are allowed`)
  }
}

/** @throws ServingError `adapter_invalid` for bytes that are no text */
export function templateText(bytes: Uint8Array, said: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw new ServingError('adapter_invalid', `${adapterFileNames.chatTemplate} at ${said} is not a text in UTF-8`, {}, { cause })
  }
}
