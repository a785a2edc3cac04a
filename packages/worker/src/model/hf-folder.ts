/** A Hugging Face folder as a model: config.json, safetensors weights, tokenizer.json and what goes with it. */
import { readFile, stat } from 'node:fs/promises'
import path from 'node:path'
import { ServingError } from '@quiver/protocol'
import type { TokenizerFiles } from '../tokenizer/tokenizer-files.ts'
import { readHfConfig } from './hf-config.ts'
import type { ModelSpec } from './model-spec.ts'
import { SafetensorsWeights } from './safetensors-weights.ts'
import { checkTensors, headTensor } from './tensor-names.ts'

/** Far above any real file: Llama 3's tokenizer.json has 9 MB. */
const MAX_JSON_BYTES = 128 * 1024 * 1024

/** Files of a folder that are read beside the weights; those after the first two may be missing. */
export const hfFiles = {
  config: 'config.json',
  tokenizer: 'tokenizer.json',
  generationConfig: 'generation_config.json',
  tokenizerConfig: 'tokenizer_config.json',
  chatTemplate: 'chat_template.jinja',
} as const

export interface OpenHfFolder {
  readonly spec: ModelSpec
  readonly weights: SafetensorsWeights
  readonly tokenizerFiles: TokenizerFiles
}

/**
 * Opens a folder and checks all of it that can be checked without reading the weights. Close `weights` when done.
 * @param id what users call the model
 * @throws ServingError `invalid_request` or `not_found` naming the file, field or tensor at fault
 */
export async function openHfFolder(folder: string, id: string): Promise<OpenHfFolder> {
  const configPath = path.join(folder, hfFiles.config)
  const config = await readJson(configPath)
  if (config === undefined)
    throw new ServingError('not_found', `${folder} is not a model folder: it has neither ${hfFiles.config} nor a .gguf file`)
  const generationConfig = await readJson(path.join(folder, hfFiles.generationConfig))
  const spec = readHfConfig({ id, path: configPath, config, generationConfig })
  const tokenizerFiles = await readTokenizerFiles(folder)
  const weights = await SafetensorsWeights.open(folder)
  try {
    checkTensors(spec, weights.shapes(), { source: folder, unused: (name) => isUnusedTensor(name, spec) })
  } catch (error) {
    await weights.close()
    throw error
  }
  return { spec, weights, tokenizerFiles }
}

/** transformers drops these too: the head of a tied model, and rotary frequencies that old versions saved. */
function isUnusedTensor(name: string, spec: ModelSpec): boolean {
  return (name === headTensor && spec.tiedEmbeddings) || /^model\.(layers\.[0-9]+\.self_attn\.)?rotary_emb\.inv_freq$/.test(name)
}

async function readTokenizerFiles(folder: string): Promise<TokenizerFiles> {
  const tokenizer = await readObject(path.join(folder, hfFiles.tokenizer))
  if (tokenizer === undefined)
    throw new ServingError('not_found', `${folder} has no ${hfFiles.tokenizer}: models without one are not supported`)
  const config = (await readObject(path.join(folder, hfFiles.tokenizerConfig))) ?? {}
  const chatTemplate = (await readText(path.join(folder, hfFiles.chatTemplate))) ?? templateOf(config)
  return { kind: 'json', tokenizer, config, ...(chatTemplate === undefined ? {} : { chatTemplate }) }
}

/** `chat_template` is a text, or a list of named ones of which `default` is the one for chats. */
function templateOf(config: Readonly<Record<string, unknown>>): string | undefined {
  const template = config['chat_template']
  if (typeof template === 'string') return template
  if (!Array.isArray(template)) return undefined
  for (const entry of template) {
    if (typeof entry === 'object' && entry !== null && entry.name === 'default' && typeof entry.template === 'string')
      return entry.template
  }
  return undefined
}

async function readObject(file: string): Promise<Readonly<Record<string, unknown>> | undefined> {
  const value = await readJson(file)
  if (value === undefined) return undefined
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ServingError('invalid_request', `${file} does not hold a JSON object`)
  }
  return value as Record<string, unknown>
}

async function readJson(file: string): Promise<unknown> {
  const text = await readText(file)
  if (text === undefined) return undefined
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new ServingError(
      'invalid_request',
      `${file} is not JSON: ${cause instanceof Error ? cause.message : cause}`,
      {},
      { cause },
    )
  }
}

/** @returns undefined when there is no such file */
async function readText(file: string): Promise<string | undefined> {
  const found = await stat(file).catch(() => undefined)
  if (found === undefined || !found.isFile()) return undefined
  if (found.size > MAX_JSON_BYTES) throw new ServingError('invalid_request', `${file} is larger than ${MAX_JSON_BYTES} bytes`)
  return await readFile(file, 'utf8')
}
