/** Opens a model that lies on this machine: a GGUF file, a folder with exactly one, or a Hugging Face folder. */
import { createHash } from 'node:crypto'
import { readdir, stat } from 'node:fs/promises'
import path from 'node:path'
import { ServingError } from '@quiver/protocol'
import type { TokenizerFiles } from '../tokenizer/tokenizer-files.ts'
import { openGgufModel } from './gguf-model.ts'
import { hfFiles, openHfFolder } from './hf-folder.ts'
import type { ModelSpec, ModelWeights } from './model-spec.ts'

export interface LoadedModel {
  readonly spec: ModelSpec
  /** Open files: close them when the weights have been read. */
  readonly weights: ModelWeights
  readonly tokenizerFiles: TokenizerFiles
  /**
   * Stands for the content of the model's files, 64 hex digits: their sha256 where they were verified on arrival, else a sha256
   * over their names, sizes, modification times and headers, which costs no reading of gigabytes.
   */
  readonly sha: string
}

export interface LocalModel {
  /** A .gguf file or a folder. */
  readonly path: string
  /** What users call the model. */
  readonly id: string
  /** The content's digest where it is known already. */
  readonly sha?: string
}

/** @throws ServingError `not_found` or `invalid_request` naming what is missing, ambiguous, damaged or not supported */
export async function openLocalModel(model: LocalModel): Promise<LoadedModel> {
  const found = await stat(model.path).catch(() => undefined)
  if (found === undefined) throw new ServingError('not_found', `${model.path} does not exist`)
  if (found.isDirectory()) return await openFolder(model)
  if (!found.isFile()) throw new ServingError('invalid_request', `${model.path} is neither a file nor a folder`)
  return await openGguf(model, model.path)
}

async function openFolder(model: LocalModel): Promise<LoadedModel> {
  const names = await readdir(model.path)
  if (!names.includes(hfFiles.config)) return await openGguf(model, path.join(model.path, onlyGguf(model.path, names)))
  const { spec, weights, tokenizerFiles } = await openHfFolder(model.path, model.id)
  const sha = model.sha ?? (await folderSha(model.path, names, weights.headersSha256))
  return { spec, weights, tokenizerFiles, sha }
}

function onlyGguf(folder: string, names: readonly string[]): string {
  const files = names.filter((name) => name.endsWith('.gguf')).toSorted()
  const [first, ...more] = files
  if (first === undefined) {
    throw new ServingError('not_found', `${folder} is not a model folder: it has neither ${hfFiles.config} nor a .gguf file`)
  }
  if (more.length > 0) {
    throw new ServingError(
      'invalid_request',
      `${folder} holds ${files.length} GGUF files; give the path of one: ${files.slice(0, 8).join(', ')}`,
    )
  }
  return first
}

async function openGguf(model: LocalModel, file: string): Promise<LoadedModel> {
  const { spec, weights, tokenizerFiles, header } = await openGgufModel(file, model.id)
  const sha = model.sha ?? digest([`${await fileIdentity(file)}\0${header.headerSha256}`])
  return { spec, weights, tokenizerFiles, sha }
}

/** Everything that this reader may use: other files in the folder do not change the model. */
async function folderSha(folder: string, names: readonly string[], headersSha256: string): Promise<string> {
  const used = names.filter((name) => Object.values<string>(hfFiles).includes(name) || name.endsWith('.safetensors')).toSorted()
  const lines: string[] = []
  for (const name of used) lines.push(await fileIdentity(path.join(folder, name)))
  return digest([...lines, headersSha256])
}

async function fileIdentity(file: string): Promise<string> {
  const { size, mtimeMs } = await stat(file)
  return `${path.basename(file)}\0${size}\0${mtimeMs}`
}

function digest(lines: readonly string[]): string {
  return createHash('sha256').update(lines.join('\n')).digest('hex')
}
